"""Residual-152 on ImageNet, shortcut option B. Top-1 validation error in the paper, ten crops: 21.43 % (table 3)."""

from configs import recipes


def get_config():
    return recipes.imagenet(depth=152, residual=True)
