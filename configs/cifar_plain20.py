"""Plain-20 on CIFAR-10. Test error in the paper: 9 to 10 % (figure 6, by eye)."""

from configs import recipes


def get_config():
    return recipes.cifar(depth=20, residual=False)
