"""Plain-44 on CIFAR-10. In the paper its errors lie between those of plain-32 and plain-56 (figure 6)."""

from configs import recipes


def get_config():
    return recipes.cifar(depth=44, residual=False)
