"""Pre-activation residual-56 on CIFAR-10 (He et al. 2016, arXiv 1603.05027). No error is published at this depth.

About 25 hours of training on two CPU cores, by the time of a step of preact residual-20 there; not yet measured on a
GPU.
"""

from configs import recipes


def get_config():
    return recipes.preact(depth=56)
