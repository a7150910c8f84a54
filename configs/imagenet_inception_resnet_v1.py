"""Inception-ResNet-v1 on ImageNet. Top-1 / top-5 validation error in the paper, one crop: 21.3 % / 5.5 %.

Without about 1700 blacklisted images, which makes it about 0.3 % / 0.15 % too good; of all images with 12 crops:
19.8 % / 4.6 % (Szegedy et al. 2016, arXiv 1602.07261, section 5).

Its plain twin: --config.model.residual=False.

About 2.2 years of training on two CPU cores, by the time of a step of Inception-ResNet-v2 there; not yet measured on
a GPU.
"""

from configs import recipes


def get_config():
    return recipes.imagenet_inception("inception_resnet_v1", depth=93, residual=True)
