"""Residual-110 with stochastic depth on CIFAR-10. Test error in the paper: 5.25 %, at constant depth 6.41 % (Huang et
al. 2016, arXiv 1603.09382, table 1).

About 5 days of training on two CPU cores, by the time of a step of residual-20 there; not yet measured on a GPU.
"""

from configs import recipes


def get_config():
    return recipes.stochastic_depth(depth=110)
