"""Residual Inception net of 116 layers on CIFAR-10; its plain twin: --config.model.residual=False. No published error.

Szegedy et al. 2016 (arXiv 1602.07261, section 2) claim that shortcuts are not necessary to train deep Inception nets,
but speed it up greatly; the ImageNet nets that they compare differ in more than the addition.
"""

from configs import recipes


def get_config():
    return recipes.inception(depth=116, residual=True)
