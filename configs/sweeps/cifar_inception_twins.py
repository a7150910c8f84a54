"""Are shortcuts necessary to train Inception nets, or do they only speed training up? (Szegedy et al. 2016, section 2)

Plain and residual nets that differ by the addition alone, on CIFAR-10.
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, product


def get_config():
    return recipes.inception(depth=20, residual=False)


def get_sweep():
    return product(axis("model.residual", [False, True]), axis("model.depth", [20, 44, 68, 116]))
