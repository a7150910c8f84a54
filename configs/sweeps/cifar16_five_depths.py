"""How does the degradation of plain nets grow with depth on CIFAR-10 at 16x16 pixels, and where does it begin?

Protocol: plain and residual nets of the paper's five depths under the recipe of cifar16_depth, one seed each. Those of
110 layers are warmed up as in the paper: 400 steps at a tenth of the learning rate.

It does not show: intervals, which take three seeds; cifar16_depth has them.

Literature: on CIFAR-10 plain nets have higher training error the deeper they are, 110 layers have above 60 % test
error; residual nets have lower error the deeper they are, to 110 layers (He et al. 2015, arXiv 1512.03385, figure 6).
"""

from configs.sweeps import cifar16_depth
from resnet_jax.sweeps.grid import axis, product

LITERATURE = {
    "plain": ("degrades", "He et al. 2015, figure 6"),
    "residual": ("does not degrade", "He et al. 2015, figure 6"),
}


def get_config():
    config = cifar16_depth.get_config()
    config.keep_checkpoints = ()
    return config


def get_sweep():
    return product(axis("model.residual", [False, True]), axis("model.depth", [20, 32, 44, 56, 110]))
