"""How sure is the degradation of plain nets from 20 to 56 layers on CIFAR-10, over five seeds?"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, product


def get_config():
    return recipes.cifar(depth=20, residual=False)


def get_sweep():
    return product(axis("model.residual", [False, True]), axis("model.depth", [20, 56]), axis("seed", range(5)))
