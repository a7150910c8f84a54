"""Fixup residual-56 on CIFAR-10: shortcuts without norms (Zhang et al. 2019, arXiv 1901.09321). Test error in the
README of ReZero-examples: 7.5 %, with batch norm 7.74 % there.

The recipe is residual-56's; the authors' code has mixup, and a tenth of the learning rate for scalars.
"""

from configs import recipes


def get_config():
    return recipes.cifar(depth=56, residual=True, branch_scaling="fixup")
