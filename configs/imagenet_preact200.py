"""Pre-activation residual-200 on ImageNet. Top-1 validation error in the paper, one 320 crop: 20.1 % (He et al. 2016,
arXiv 1603.05027, table 5).
"""

from configs import recipes


def get_config():
    return recipes.imagenet_modern(depth=200, order="preactivation")
