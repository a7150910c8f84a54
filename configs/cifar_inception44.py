"""Residual Inception net of 44 layers on CIFAR-10; its plain twin: --config.model.residual=False. Published error: none.

Szegedy et al. 2016 (arXiv 1602.07261) claim that shortcuts are not necessary to train deep Inception nets, but speed it
up greatly (section 2); the ImageNet nets that they compare differ in more than the addition.
"""

from configs import recipes


def get_config():
    return recipes.inception(depth=44, residual=True)
