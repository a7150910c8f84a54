"""Which nets does the study of conversion start from? Residual-56 after 30 steps, in the middle of its training."""

from configs import recipes
from resnet_jax.sweeps.grid import axis


def get_config():
    config = recipes.digits(depth=56, residual=True)
    config.steps = 30
    config.optimizer.milestones = ()
    config.log_every = 5
    return config


def get_sweep():
    return axis("seed", range(4))
