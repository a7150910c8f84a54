"""WRN-50-2-bottleneck on ImageNet, the stride on the 3x3. Top-1 validation error in the paper, one crop: 21.9 %
(Zagoruyko and Komodakis 2016, arXiv 1605.07146, table 8).

About 2.3 years of training on two CPU cores, by the time of a step of residual-50-2 there; not yet measured on a GPU.
"""

from configs import recipes


def get_config():
    return recipes.imagenet_modern(depth=50, widening=2, bottleneck_stride="middle")
