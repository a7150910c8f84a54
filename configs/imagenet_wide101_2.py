"""Residual-101 on ImageNet with 3x3 convolutions of twice the width, as in torchvision. No paper gives its error.

About 4.6 years of training on two CPU cores, by the time of a step of residual-50-2 there; not yet measured on a GPU.
"""

from configs import recipes


def get_config():
    return recipes.imagenet_modern(depth=101, widening=2, bottleneck_stride="middle")
