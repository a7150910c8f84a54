"""Plain-44 on CIFAR-10. In the paper its errors lie between plain-32's and plain-56's (figure 6)."""

from configs import recipes


def get_config():
    return recipes.cifar(depth=44, residual=False)
