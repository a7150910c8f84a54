"""Residual-20 on CIFAR-10 with a shortcut round each convolution. No error is published at this depth."""

from configs import recipes


def get_config():
    return recipes.preact(depth=20, block="single", order="original")
