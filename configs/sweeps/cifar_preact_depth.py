"""Do pre-activation nets go on improving to 1001 layers, where those of the original order do not?

He et al. 2016, table 4: 6.61, 5.93 and 7.61 % in the original order, 6.37, 5.46 and 4.92 % with pre-activation, for 110
layers of basic blocks and 164 and 1001 of bottlenecks. The original order there has projections with a norm.
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, chain, product


def get_config():
    return recipes.preact(depth=20)


def get_sweep():
    basic = axis("model.depth", [20, 56, 110])
    bottleneck = product(
        axis("model.block", ["bottleneck"]), axis("model.shortcut", ["B"]), axis("model.depth", [164, 1001])
    )
    return product(axis("model.order", ["original", "preactivation"]), chain(basic, bottleneck))
