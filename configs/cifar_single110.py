"""Residual-110 on CIFAR-10 with a shortcut round each convolution. Test error in the paper: 9.90 %; pre-activation 8.91
% (He et al. 2016, arXiv 1603.05027, table 3).

About 40 hours of training on two CPU cores, by the time of a step of single residual-20 there; not yet measured on a
GPU.
"""

from configs import recipes


def get_config():
    return recipes.preact(depth=110, block="single", order="original")
