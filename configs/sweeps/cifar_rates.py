"""Does the time to learn grow exponentially with the depth of plain nets on CIFAR-10, and of residual nets not?

He et al. 2015, section 4.1, conjecture so; `python -m experiments.compare runs/cifar_rates --rates` fits both laws.
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, product


def get_config():
    config = recipes.cifar(depth=20, residual=False)
    config.optimizer.milestones = ()  # One segment of constant learning rate, of half the recipe's steps.
    config.steps = 32_000
    return config


def get_sweep():
    depths = [8, 14, 20, 26, 32, 38, 44, 56]
    return product(axis("model.residual", [False, True]), axis("model.depth", depths), axis("seed", range(3)))
