"""Pre-activation residual-200 on ImageNet. Top-1 validation error in the paper, one 320 crop: 20.1 % (He et al. 2016,
arXiv 1603.05027, table 5).

About 3.3 years of training on two CPU cores, by the time of a step of preact residual-50 there; not yet measured on a
GPU.
"""

from configs import recipes


def get_config():
    config = recipes.imagenet_modern(depth=200, order="preactivation")
    config.optimizer.nesterov = False  # As in the paper.
    return config
