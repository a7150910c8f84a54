"""DenseNet-121 on ImageNet. Top-1 validation error in Huang et al. 2016, one crop: 25.02 % (table 3).

Training time: not yet measured.
"""

from configs import recipes


def get_config():
    return recipes.imagenet_densenet(depth=121)
