"""Residual-101 on ImageNet, shortcut option B. Top-1 validation error in the paper, ten crops: 21.75 % (table 3)."""

from configs import recipes


def get_config():
    return recipes.imagenet(depth=101, residual=True)
