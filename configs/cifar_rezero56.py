"""ReZero residual-56 on CIFAR-10 (Bachlechner et al. 2020, arXiv 2003.04887). Test error in the README of
ReZero-examples: 6.38 %, of the usual net 7.74 % there.
"""

from configs import recipes


def get_config():
    return recipes.cifar(depth=56, residual=True, branch_scaling="rezero")
