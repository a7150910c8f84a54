"""Plain-32 on CIFAR-10. In the paper its errors lie between those of plain-20 and plain-44 (figure 6)."""

from configs import recipes


def get_config():
    return recipes.cifar(depth=32, residual=False)
