"""In ten epochs residual-56 is worse than residual-20: do pre-activation or stochastic depth change that?

Protocol: residual nets of 20 and 56 layers under the recipe of cifar16_depth: as they are, with pre-activation, and
with stochastic depth, where survival falls linearly to 1/2 at the last block. The number of seeds is chosen by
--config=configs/sweeps/cifar16_variants.py:1 and is 3 otherwise.

It does not show: the gains in test error that both are known for, which need a hundred epochs and more.

Literature: pre-activation eases optimisation of nets of a thousand layers, at 110 it gains little (6.37 against 6.61 %
test error; He et al. 2016, arXiv 1603.05027, table 4). With stochastic depth a net is short in training and deep in
evaluation: 5.25 against 6.41 % test error with 110 layers (Huang et al. 2016, arXiv 1603.09382, table 1). Neither
table has training errors of 20 and 56 layers, so that nothing here can contradict them.
"""

from configs.sweeps import cifar16_depth
from resnet_jax.sweeps.grid import axis, chain, product

LITERATURE = {
    "residual, survival 1.0": ("does not degrade", "He et al. 2015, figure 6"),
}


def get_config(seeds="3"):
    config = cifar16_depth.get_config()
    config.model.residual = True
    config.keep_checkpoints = ()
    return config


def get_sweep(seeds="3"):
    variants = chain(axis("model.order", ["original", "preactivation"]), axis("model.survival", [0.5]))
    return product(variants, axis("model.depth", [20, 56]), axis("seed", range(int(seeds))))
