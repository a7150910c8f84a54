"""Does a shortcut round every single convolution cure degradation as one round two does?

Protocol: plain nets, residual nets whose blocks have two convolutions, and residual nets whose blocks have one, at 20
and 56 layers. All have the same parameters.

It does not show: which of the two generalises better; the digits are too easy for that.

Literature: He et al. 2015, section 3.2, "have not observed advantages" of one layer; with 110 layers on CIFAR-10 it has
9.90 % test error (He et al. 2016, arXiv 1603.05027, table 3), two layers 6.61 %, the plain net above 20 %.
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, chain, product

LITERATURE = {
    "plain": ("degrades", "He et al. 2015, figure 6"),
    "residual": ("does not degrade", "He et al. 2015, figure 6"),
}


def get_config():
    config = recipes.digits(depth=56, residual=True)
    config.steps = 100
    return config


def get_sweep():
    blocks = product(axis("model.residual", [True]), axis("model.block", ["basic", "single"]))
    nets = chain(axis("model.residual", [False]), blocks)
    return product(nets, axis("model.depth", [20, 56]), axis("seed", range(5)))
