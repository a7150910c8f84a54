"""DenseNet-BC-100-12 on CIFAR-10 with augmentation. Test error in Huang et al. 2016: 4.51 % (table 2).

About 8 days of training on two CPU cores, by the time of a step of DenseNet-BC-100-12 there; not yet measured on a
GPU.
"""

from configs import recipes


def get_config():
    return recipes.densenet(depth=100, growth=12, compression=0.5)
