"""How sure is the degradation of plain nets from 20 to 56 layers on CIFAR-10?

Protocol: plain and residual nets of 20 and 56 layers, several seeds each, under the paper's recipe; with
--config.steps=N in N steps, the learning rate dropping at the same fractions of them. The number of seeds is chosen by
--config=configs/sweeps/cifar_seeds.py:5 and is 3 otherwise.

It does not show: the paper's errors, where steps are fewer than its 64,000; nor depths between and beyond.

Literature: plain-56 has higher training error than plain-20 throughout training, residual nets have lower error the
deeper they are (He et al. 2015, arXiv 1512.03385, figure 6).
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, product

LITERATURE = {
    "plain": ("degrades", "He et al. 2015, figure 6"),
    "residual": ("does not degrade", "He et al. 2015, figure 6"),
}


def get_config(seeds="3"):
    return recipes.cifar(depth=20, residual=False)


def get_sweep(seeds="3"):
    nets = product(axis("model.residual", [False, True]), axis("model.depth", [20, 56]))
    return product(nets, axis("seed", range(int(seeds))))
