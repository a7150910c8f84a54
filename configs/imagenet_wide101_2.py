"""Residual-101 on ImageNet with 3x3 convolutions of twice the width, as in torchvision. No paper gives its error."""

from configs import recipes


def get_config():
    return recipes.imagenet_modern(depth=101, widening=2, bottleneck_stride="middle")
