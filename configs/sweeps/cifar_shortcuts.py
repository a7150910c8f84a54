"""Do projection shortcuts (options B and C) train better than identities (option A) on CIFAR-10?"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, product


def get_config():
    return recipes.cifar(depth=20, residual=True)


def get_sweep():
    return product(axis("model.depth", [20, 56]), axis("model.shortcut", ["A", "B", "C"]))
