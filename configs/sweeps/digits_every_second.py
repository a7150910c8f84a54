"""Does a net degrade without every second shortcut, with only the first of each stage, or without the last stage's?

Protocol: some blocks of residual nets have no shortcut in any step, neither for the signal nor for the gradient: every
second block of the whole net (4 of 9 blocks at 20 layers, 13 of 27 at 56), all but the first of each stage (6 and 24),
or the last stage's (3 and 9). The residual and the plain net are the ends. All have the same parameters and initial
values.

Prediction, written before the first run: the number of blocks without a shortcut decides, wherever they are. At 56
layers these blocks, with stem and head, have as many layers as plain-28, plain-50 and plain-20, whose training error in
`digits_rates` is about 1, 50 and 0 %. If the longest row of such blocks decided (1, 8 and 9), no net would degrade.

It does not show: how large the effect is on photographs, or at learning rates of each net's own; the recipe's holds for
all.

Literature: with 110 layers on CIFAR-10, shortcuts times 0 or 1/2 in all blocks fail (above 20 % test error, identities
6.61 %; He et al. 2016, arXiv 1603.05027, table 1). A residual net of 110 layers, trained with all shortcuts, hardly
gets worse when one block is deleted, and smoothly when more are (Veit et al. 2016, arXiv 1605.06431, section 4).
Neither trains nets that lack some of their shortcuts.
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
    residual, plain = axis("model.residual", [True]), axis("model.residual", [False])
    patterns = axis("gates.without", ["every_second", "all_but_first", "last_stage"])
    return product(chain(residual, patterns, plain), axis("model.depth", [20, 56]), axis("seed", range(5)))
