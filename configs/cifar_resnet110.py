"""Residual-110 on CIFAR-10. Test error in the paper: 6.43 % at best, 6.61 +- 0.16 % over five runs (table 6)."""

from configs import recipes


def get_config():
    return recipes.cifar(depth=110, residual=True)
