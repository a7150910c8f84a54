"""DenseNet-BC-100-12 on CIFAR-10 with augmentation. Test error in Huang et al. 2016: 4.51 % (table 2).

Training time: not yet measured.
"""

from configs import recipes


def get_config():
    return recipes.densenet(depth=100, growth=12, compression=0.5)
