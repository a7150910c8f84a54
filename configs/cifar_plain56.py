"""Plain-56 on CIFAR-10. Test error in the paper: near 13 % (figure 6, by eye)."""

from configs import recipes


def get_config():
    return recipes.cifar(depth=56, residual=False)
