"""Do 34 plain layers train worse than 18 on ImageNet, and 34 residual layers better? (He et al. 2015, table 2)"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, product


def get_config():
    return recipes.imagenet(depth=18, residual=False)


def get_sweep():
    return product(axis("model.residual", [False, True]), axis("model.depth", [18, 34]))
