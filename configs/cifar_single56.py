"""Residual-56 on CIFAR-10 with a shortcut round each convolution. No error is published at this depth."""

from configs import recipes


def get_config():
    return recipes.preact(depth=56, block="single", order="original")
