"""Is anything on the shortcut better than the identity? (He et al. 2016, table 1, in miniature)

Protocol: residual nets of 56 layers, order of 2015, whose shortcuts are scaled, gated, a 1x1 convolution or under
dropout, compared with the identity and the plain net.

It does not show: the order of those that train, for the digits are too easy to tell 0.1 % from 0.2 %; the learning
rate is the recipe's for all.

Literature: test error on CIFAR-10 with 110 layers: identity 6.61; shortcuts times 0 or 0.5 fail (above 20 %), 0.5 on
both 12.35; exclusive gating with initial biases of 0 fail, -6 8.70, -7 9.81; gating of the shortcut alone 0 12.86,
-6 6.91; 1x1 convolution 12.22; dropout of 1/2 fail (He et al. 2016, arXiv 1603.05027, table 1).
"""

from configs import recipes
from configs.sweeps import cifar_table1
from resnet_jax.sweeps.grid import axis, chain, product


def get_config():
    config = recipes.digits(depth=56, residual=True)
    config.steps = 100
    return config


def get_sweep():
    return product(chain(cifar_table1.get_sweep(), axis("model.residual", [False])), axis("seed", range(3)))
