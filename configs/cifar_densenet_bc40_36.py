"""Wide and shallow DenseNet-BC-40-36 on CIFAR-10, as its authors propose it to save time and memory. Test error with
augmentation: 4.58 % (README of github.com/liuzhuang13/DenseNet).

About 18 days of training on two CPU cores, by the time of a step of DenseNet-BC-100-12 there; not yet measured on a
GPU.
"""

from configs import recipes


def get_config():
    return recipes.densenet(depth=40, growth=36, compression=0.5)
