"""Plain-34 on ImageNet. Top-1 validation error in the paper, ten crops: 28.54 % (table 2)."""

from configs import recipes


def get_config():
    return recipes.imagenet(depth=34, residual=False)
