"""Residual-1202 on CIFAR-10. Test error in the paper: 7.93 % (table 6)."""

from configs import recipes


def get_config():
    return recipes.cifar(depth=1202, residual=True)
