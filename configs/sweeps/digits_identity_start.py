"""Which nets does the study of identity layers start from? Plain-20 after the whole recipe."""

from configs import recipes
from resnet_jax.sweeps.grid import axis


def get_config():
    config = recipes.digits(depth=20, residual=False)
    config.steps = 100
    return config


def get_sweep():
    return axis("seed", range(5))
