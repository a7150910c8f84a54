"""Residual-1202 with stochastic depth on CIFAR-10. Test error in the paper: 4.91 %, at constant depth 6.67 % (Huang et
al. 2016, arXiv 1603.09382, section 4.1).

About 37 days of training on two CPU cores, by the time of a step of residual-20 there; not yet measured on a GPU.
"""

from configs import recipes


def get_config():
    return recipes.stochastic_depth(depth=1202)
