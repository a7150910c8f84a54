"""Pre-activation bottleneck-1001 on CIFAR-10. Test error in the paper: 4.92 %, median of 5 (He et al. 2016, arXiv
1603.05027, table 4).

About 14 days of training on two CPU cores, by the time of a step of preact bottleneck residual-29 there; not yet
measured on a GPU.
"""

from configs import recipes


def get_config():
    return recipes.preact(depth=1001, block="bottleneck", shortcut="B")
