"""Residual-50 on ImageNet, shortcut option B. Top-1 validation error in the paper, ten crops: 22.85 % (table 3)."""

from configs import recipes


def get_config():
    return recipes.imagenet(depth=50, residual=True)
