"""Fixup residual-110 on CIFAR-10: shortcuts without norms (Zhang et al. 2019, arXiv 1901.09321).

The recipe is residual-110's; the authors' code has mixup, and a tenth of the learning rate for scalars.
"""

from configs import recipes


def get_config():
    return recipes.cifar(depth=110, residual=True, branch_scaling="fixup")
