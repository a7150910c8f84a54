"""Residual-56 on CIFAR-10 with a shortcut round each convolution. No error is published at this depth.

About 20 hours of training on two CPU cores, by the time of a step of single residual-20 there; not yet measured on a
GPU.
"""

from configs import recipes


def get_config():
    return recipes.preact(depth=56, block="single", order="original")
