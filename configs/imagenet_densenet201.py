"""DenseNet-201 on ImageNet. Top-1 validation error in Huang et al. 2016, one crop: 22.58 % (table 3).

About 1.4 years of training on two CPU cores, by the time of a step of DenseNet-121-32 there; not yet measured on a
GPU.
"""

from configs import recipes


def get_config():
    return recipes.imagenet_densenet(depth=201)
