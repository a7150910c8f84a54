"""Plain-56 of Dirac parametrised convolutions on CIFAR-10 (Zagoruyko and Komodakis 2017, arXiv 1706.00388). No error is
published for this net; the paper's are wide.
"""

from configs import recipes


def get_config():
    return recipes.dirac(depth=56)
