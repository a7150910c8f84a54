"""WRN-16-4 on CIFAR-10. Test error in the paper: 5.02 %, median of 5; 5.24 % with dropout 0.3 (Zagoruyko and Komodakis
2016, arXiv 1605.07146, table 6).

About 45 hours of training on two CPU cores, by the time of a step of WRN-16-4 there; not yet measured on a GPU.
"""

from configs import recipes


def get_config():
    return recipes.wide(depth=16, widening=4)
