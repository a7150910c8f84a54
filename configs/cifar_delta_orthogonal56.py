"""Plain-56 of tanh without norms, delta-orthogonal at the start, on CIFAR-10 (Xiao et al. 2018, arXiv 1806.05393). No
error is published for this net; the paper's have one width and up to 10,000 layers.
"""

from configs import recipes


def get_config():
    return recipes.delta_orthogonal(depth=56)
