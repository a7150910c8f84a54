"""Residual-32 on CIFAR-10. Test error in the paper: 7.51 % (table 6)."""

from configs import recipes


def get_config():
    return recipes.cifar(depth=32, residual=True)
