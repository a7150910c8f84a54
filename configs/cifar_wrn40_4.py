"""WRN-40-4 on CIFAR-10. Test error in the paper: 4.53 %, median of 5 (Zagoruyko and Komodakis 2016, arXiv 1605.07146,
table 5).

About 6 days of training on two CPU cores, by the time of a step of WRN-16-4 there; not yet measured on a GPU.
"""

from configs import recipes


def get_config():
    return recipes.wide(depth=40, widening=4)
