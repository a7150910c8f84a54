"""Residual-18 on ImageNet, shortcut option A. Top-1 validation error in the paper, ten crops: 27.88 % (table 2)."""

from configs import recipes


def get_config():
    return recipes.imagenet(depth=18, residual=True)
