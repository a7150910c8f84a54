"""WRN-28-10 on CIFAR-10. Test error in the paper: 4.00 %, median of 5; 3.89 % with dropout 0.3 (Zagoruyko and Komodakis
2016, arXiv 1605.07146, tables 5 and 6).

About 25 days of training on two CPU cores, by the time of a step of WRN-16-4 there; not yet measured on a GPU.
"""

from configs import recipes


def get_config():
    return recipes.wide(depth=28, widening=10)
