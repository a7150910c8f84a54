"""Inception-ResNet-v2, as released, on ImageNet. Top-1 / top-5 validation error in the paper, one crop: 19.9 % / 4.9 %.

Without about 1700 blacklisted images, which makes it about 0.3 % / 0.15 % too good; of all images with 12 crops:
18.7 % / 4.1 % (Szegedy et al. 2016, arXiv 1602.07261, section 5).

Its plain twin: --config.model.residual=False. The net of the paper's figures:
--config.model.family=inception_resnet_v2_paper --config.model.depth=96.

About 4.8 years of training on two CPU cores, by the time of a step of Inception-ResNet-v2 there; not yet measured on
a GPU.
"""

from configs import recipes


def get_config():
    return recipes.imagenet_inception("inception_resnet_v2", depth=176, residual=True)
