"""Does depth degrade the training of plain and residual nets on the embedded digits?"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, product

LITERATURE = {
    "plain": ("degrades", "He et al. 2015, figure 6"),
    "residual": ("does not degrade", "He et al. 2015, figure 6"),
}


def get_config():
    config = recipes.digits(depth=20, residual=False)
    config.steps = 100  # Half of the recipe's: the picture is the same.
    return config


def get_sweep():
    return product(axis("model.residual", [False, True]), axis("model.depth", [20, 56]), axis("seed", range(3)))
