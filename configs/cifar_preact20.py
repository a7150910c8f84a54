"""Pre-activation residual-20 on CIFAR-10 (He et al. 2016, arXiv 1603.05027). No error is published at this depth."""

from configs import recipes


def get_config():
    return recipes.preact(depth=20)
