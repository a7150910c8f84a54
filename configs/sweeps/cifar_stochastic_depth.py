"""Does stochastic depth cure degradation, or does it only add to what the shortcut has cured?

If the plain net degrades and the residual net of constant depth does not, what is left for stochastic depth is the
distance between the last two. A plain block that is dropped passes its input on, so that plain nets are trained at a
smaller depth too; in evaluation all blocks are computed. Huang et al. 2016, table 1: 6.41 and 5.25 % with 110 layers.
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, product


def get_config():
    return recipes.stochastic_depth(depth=20)


def get_sweep():
    return product(
        axis("model.residual", [False, True]), axis("model.survival", [1.0, 0.5]), axis("model.depth", [20, 56, 110])
    )
