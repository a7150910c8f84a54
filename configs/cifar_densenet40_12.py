"""DenseNet-40-12 on CIFAR-10 with augmentation. Test error in Huang et al. 2016: 5.24 % (table 2).

About 6 days of training on two CPU cores, by the time of a step of DenseNet-40-12 there; not yet measured on a GPU.
"""

from configs import recipes


def get_config():
    return recipes.densenet(depth=40, growth=12)
