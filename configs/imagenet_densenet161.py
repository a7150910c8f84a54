"""DenseNet-161 on ImageNet. Top-1 validation error of the authors, one crop: 22.2 % (README of the authors' code).

Training time: not yet measured.
"""

from configs import recipes


def get_config():
    return recipes.imagenet_densenet(depth=161)
