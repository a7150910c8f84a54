"""In ten epochs residual-56 is worse than residual-20: does it remain so if both are warmed up?

Protocol: residual nets of 20 and 56 layers under the recipe of cifar16_depth, but with the warm-up that the paper gives
110 layers: 400 steps at a tenth of the learning rate. Without it the nets are those of cifar16_depth. The number of
seeds is chosen by --config=configs/sweeps/cifar16_warmup.py:1 and is 3 otherwise.

It does not show: whether a warm-up is the best remedy; cifar16_tuned and cifar16_variants have others.

Literature: residual nets have lower training error the deeper they are, to 56 layers without warm-up; 110 layers begin
at 0.01 because 0.1 is "slightly too large to start converging" (He et al. 2015, arXiv 1512.03385, section 4.2).
"""

from configs.sweeps import cifar16_depth
from resnet_jax.sweeps.grid import axis, product

LITERATURE = {"residual": ("does not degrade", "He et al. 2015, figure 6")}


def get_config(seeds="3"):
    config = cifar16_depth.get_config()
    config.model.residual = True
    config.optimizer.warmup_min_depth = 0
    config.keep_checkpoints = ()
    return config


def get_sweep(seeds="3"):
    return product(axis("model.depth", [20, 56]), axis("seed", range(int(seeds))))
