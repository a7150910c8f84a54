"""Residual-34 on ImageNet, shortcut option A. Top-1 validation error in the paper, ten crops: 25.03 % (table 2)."""

from configs import recipes


def get_config():
    return recipes.imagenet(depth=34, residual=True)
