"""Plain-18 on ImageNet. Top-1 validation error in the paper, ten crops: 27.94 % (table 2)."""

from configs import recipes


def get_config():
    return recipes.imagenet(depth=18, residual=False)
