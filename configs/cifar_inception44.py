"""Residual Inception net of 44 layers on CIFAR-10; its plain twin: --config.model.residual=False. No published error.

Szegedy et al. 2016 (arXiv 1602.07261, section 2) claim that shortcuts are not necessary to train deep Inception nets,
but speed it up greatly; the ImageNet nets that they compare differ in more than the addition.

About 11 hours of training on two CPU cores, by the time of a step of Inception residual-44 there; not yet measured on
a GPU.
"""

from configs import recipes


def get_config():
    return recipes.inception(depth=44, residual=True)
