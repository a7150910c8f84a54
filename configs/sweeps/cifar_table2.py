"""Which order of norm, ReLU and addition trains best? (He et al. 2016, table 2)

Test errors in the paper with 110 layers of basic blocks and 164 of bottlenecks: original 6.61 and 5.93, norm after
addition 8.17 and 6.50, ReLU before addition 7.84 and 6.14, ReLU-only pre-activation 6.71 and 5.91, pre-activation 6.37
and 5.46.
"""

from configs import recipes
from resnet_jax.fields import FIELDS
from resnet_jax.sweeps.grid import axis, chain, product


def get_config():
    return recipes.preact(depth=110)


def get_sweep():
    nets = chain(
        axis("model.depth", [110]),
        product(axis("model.depth", [164]), axis("model.block", ["bottleneck"]), axis("model.shortcut", ["B"])),
    )
    return product(nets, axis("model.order", FIELDS["model.order"].choices))
