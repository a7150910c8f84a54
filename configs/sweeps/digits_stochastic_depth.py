"""Does stochastic depth cure the degradation of plain nets, and does it cost residual nets anything?

Protocol: plain and residual nets of 20 and 56 layers with all blocks, and with blocks dropped at random in training:
survival falls linearly to 1/2 at the last block. A plain block that is dropped passes its input on; in evaluation all
blocks are computed, residual branches times their survival.

It does not show: the gain in test error that stochastic depth is known for, which needs hundreds of epochs.

Literature: residual nets of 110 layers have 6.41 % test error on CIFAR-10 without and 5.25 % with stochastic depth
(Huang et al. 2016, arXiv 1603.09382, table 1). Plain nets were not tried there.
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, product

LITERATURE = {
    "plain, survival 1.0": ("degrades", "He et al. 2015, figure 6"),
    "residual, survival 1.0": ("does not degrade", "He et al. 2015, figure 6"),
}


def get_config():
    config = recipes.digits(depth=56, residual=True)
    config.steps = 100
    return config


def get_sweep():
    return product(
        axis("model.residual", [False, True]),
        axis("model.survival", [1.0, 0.5]),
        axis("model.depth", [20, 56]),
        axis("seed", range(5)),
    )
