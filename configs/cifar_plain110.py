"""Plain-110 on CIFAR-10. Test error in the paper: above 60 % (figure 6, where it is not drawn)."""

from configs import recipes


def get_config():
    return recipes.cifar(depth=110, residual=False)
