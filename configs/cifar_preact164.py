"""Pre-activation bottleneck-164 on CIFAR-10. Test error in the paper: 5.46 %, median of 5 (He et al. 2016, arXiv
1603.05027, table 2).
"""

from configs import recipes


def get_config():
    return recipes.preact(depth=164, block="bottleneck", shortcut="B")
