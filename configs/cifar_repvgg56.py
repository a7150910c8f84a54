"""RepVGG-like net of 56 layers on CIFAR-10, a plain one after training (Ding et al. 2021, arXiv 2101.03697). No error
is published for this net; the paper's are for ImageNet.
"""

from configs import recipes


def get_config():
    return recipes.repvgg(depth=56)
