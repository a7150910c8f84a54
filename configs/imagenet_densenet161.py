"""DenseNet-161 on ImageNet. Top-1 validation error of the authors, one crop: 22.2 % (README of the authors' code).

About 2.6 years of training on two CPU cores, by the time of a step of DenseNet-121-32 there; not yet measured on a
GPU.
"""

from configs import recipes


def get_config():
    return recipes.imagenet_densenet(depth=161)
