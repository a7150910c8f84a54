"""Normalizer-free residual-56 on CIFAR-10, with scaled weight standardisation (Brock et al. 2021, arXiv 2101.08692). No
error is published for this net.
"""

from configs import recipes


def get_config():
    return recipes.cifar(depth=56, residual=True, branch_scaling="normalizer_free", shortcut="B")
