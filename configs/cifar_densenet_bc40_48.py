"""Wide and shallow DenseNet-BC-40-48 on CIFAR-10, as its authors propose it to save time and memory. Test error with
augmentation: 3.99 % (README of github.com/liuzhuang13/DenseNet).

About 33 days of training on two CPU cores, by the time of a step of DenseNet-BC-100-12 there; not yet measured on a
GPU.
"""

from configs import recipes


def get_config():
    return recipes.densenet(depth=40, growth=48, compression=0.5)
