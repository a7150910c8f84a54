"""Residual-44 on CIFAR-10. Test error in the paper: 7.17 % (table 6)."""

from configs import recipes


def get_config():
    return recipes.cifar(depth=44, residual=True)
