"""WRN-40-4 on CIFAR-10. Test error in the paper: 4.53 %, median of 5 (Zagoruyko and Komodakis 2016, arXiv 1605.07146,
table 5).
"""

from configs import recipes


def get_config():
    return recipes.wide(depth=40, widening=4)
