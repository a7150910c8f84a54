"""Residual-56 on CIFAR-10. Test error in the paper: 6.97 % (table 6)."""

from configs import recipes


def get_config():
    return recipes.cifar(depth=56, residual=True)
