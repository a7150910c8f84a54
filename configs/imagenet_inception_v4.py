"""Inception-v4 on ImageNet. Top-1 / top-5 validation error in the paper, one crop: 20.0 % / 5.0 %.

Without about 1700 blacklisted images, which makes it about 0.3 % / 0.15 % too good; of all images with 12 crops:
18.7 % / 4.2 % (Szegedy et al. 2016, arXiv 1602.07261, section 5).

About 4.2 years of training on two CPU cores, by the time of a step of Inception-v4 there; not yet measured on a GPU.
"""

from configs import recipes


def get_config():
    return recipes.imagenet_inception("inception_v4", depth=76, residual=False)
