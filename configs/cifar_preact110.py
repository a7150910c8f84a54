"""Pre-activation residual-110 on CIFAR-10. Test error in the paper: 6.37 %, median of 5 (He et al. 2016, arXiv
1603.05027, table 2).

About 2 days of training on two CPU cores, by the time of a step of preact residual-20 there; not yet measured on a
GPU.
"""

from configs import recipes


def get_config():
    return recipes.preact(depth=110)
