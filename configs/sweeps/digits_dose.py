"""How much of the shortcut does a deep net need, and how long does it need it?

Protocol: shortcuts are multiplied by 0 (the plain net), 1/4, 1/2, 3/4 or 1 (the residual net) throughout, gradients
included; or they are whole at first and fade out linearly between a quarter and three quarters of the steps (phased
out), so that what is evaluated at the end is a plain net. One program, other numbers.

It does not show: whether a fading net would keep what it has learnt in longer training; learning rates are the recipe's
for all doses.

Literature: with 110 layers on CIFAR-10, shortcuts times 0 or 1/2 fail (above 20 %), both terms times 1/2 give 12.35 %,
identities 6.61 % (He et al. 2016, arXiv 1603.05027, table 1).
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, chain, merge, product

LITERATURE = {
    "residual": ("does not degrade", "He et al. 2015, figure 6"),
}


def get_config():
    config = recipes.digits(depth=56, residual=True)
    config.steps = 100
    return config


def get_sweep():
    doses = axis("gates.shortcut_factor", [1.0, 0.75, 0.5, 0.25, 0.0])
    phased_out = [merge({"gates.final": (0, 1, 1, 1)}, {"gates.phase": (0.25, 0.75)})]
    return product(chain(doses, phased_out), axis("model.depth", [20, 56]), axis("seed", range(5)))
