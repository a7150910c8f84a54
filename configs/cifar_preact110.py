"""Pre-activation residual-110 on CIFAR-10. Test error in the paper: 6.37 %, median of 5 (He et al. 2016, arXiv
1603.05027, table 2).
"""

from configs import recipes


def get_config():
    return recipes.preact(depth=110)
