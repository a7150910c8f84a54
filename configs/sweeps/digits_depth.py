"""Does depth degrade the training of plain and residual nets on the embedded digits?

Protocol: plain and residual nets of 20 and 56 layers, 100 steps of 128 images, as of `make demo`. The number of seeds
is chosen by --config=configs/sweeps/digits_depth.py:5 and is 3 otherwise.

It does not show: how large the effect is on photographs. The digits are few and easy; and rounding, which differs
between machines, moves the error of plain-56 by several points and test errors by more than their spread over seeds.

Literature: plain-56 has higher training error than plain-20 throughout training, residual nets have lower error the
deeper they are (He et al. 2015, arXiv 1512.03385, figure 6, on CIFAR-10).
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, product

LITERATURE = {
    "plain": ("degrades", "He et al. 2015, figure 6"),
    "residual": ("does not degrade", "He et al. 2015, figure 6"),
}


def get_config(seeds="3"):
    config = recipes.digits(depth=20, residual=False)
    config.steps = 100  # Half of the recipe's: the picture is the same.
    return config


def get_sweep(seeds="3"):
    nets = product(axis("model.residual", [False, True]), axis("model.depth", [20, 56]))
    return product(nets, axis("seed", range(int(seeds))))
