"""Pre-activation bottleneck-1001 on CIFAR-10. Test error in the paper: 4.92 %, median of 5 (He et al. 2016, arXiv
1603.05027, table 4).
"""

from configs import recipes


def get_config():
    return recipes.preact(depth=1001, block="bottleneck", shortcut="B")
