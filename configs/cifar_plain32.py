"""Plain-32 on CIFAR-10. In the paper its errors lie between plain-20's and plain-44's (figure 6)."""

from configs import recipes


def get_config():
    return recipes.cifar(depth=32, residual=False)
