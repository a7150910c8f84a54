"""Do deeper plain nets train worse on CIFAR-10, and deeper residual nets not? (He et al. 2015, figure 6)

The paper's last panel, residual-1202, is chosen by --config=configs/sweeps/cifar_figure6.py:1202.
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, chain, product

LITERATURE = {
    "plain": ("degrades", "He et al. 2015, figure 6"),
    "residual": ("does not degrade", "He et al. 2015, figure 6"),
}


def get_config(deepest="110"):
    return recipes.cifar(depth=20, residual=False)


def get_sweep(deepest="110"):
    depths = {"110": [20, 32, 44, 56, 110], "1202": [20, 32, 44, 56, 110, 1202]}[deepest]
    plain = product(axis("model.residual", [False]), axis("model.depth", [20, 32, 44, 56]))
    return chain(plain, product(axis("model.residual", [True]), axis("model.depth", depths)))
