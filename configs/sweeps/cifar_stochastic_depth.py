"""Does stochastic depth cure degradation, or does it only add to what the shortcut has cured?

A plain net has nothing that could carry on where a block is dropped, so stochastic depth begins from the residual net:
if the plain net degrades and the residual net of constant depth does not, what is left for stochastic depth is the
distance between the last two. Huang et al. 2016, table 1: 6.41 and 5.25 % with 110 layers.
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, chain, product


def get_config():
    return recipes.stochastic_depth(depth=20)


def get_sweep():
    plain = product(axis("model.residual", [False]), axis("model.survival", [1.0]))
    residual = product(axis("model.residual", [True]), axis("model.survival", [1.0, 0.5]))
    return product(chain(plain, residual), axis("model.depth", [20, 56, 110]))
