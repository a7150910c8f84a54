"""Residual-20 on CIFAR-10. Test error in the paper: 8.75 % (table 6)."""

from configs import recipes


def get_config():
    return recipes.cifar(depth=20, residual=True)
