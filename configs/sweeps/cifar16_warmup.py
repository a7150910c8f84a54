"""In ten epochs residual-56 is worse than residual-20: does it remain so if both are warmed up?

Protocol: residual nets of 20 and 56 layers under the recipe of cifar16_depth, with the warm-up that the paper gives 110
layers, 400 steps at a tenth of the learning rate, and without it: all in float32 on one kind of device, so that warm-up
is all that differs. The number of seeds is chosen by --config=configs/sweeps/cifar16_warmup.py:1 and is 3 otherwise.

It does not show: whether a warm-up is the best remedy; cifar16_tuned and cifar16_variants have others.

Literature: residual nets have lower training error the deeper they are, to 56 layers without warm-up; 110 layers begin
at 0.01 because 0.1 is "slightly too large to start converging" (He et al. 2015, arXiv 1512.03385, section 4.2).
"""

from configs.sweeps import cifar16_depth
from resnet_jax.sweeps.grid import axis, product

LITERATURE = {"residual, warmup_min_depth 110": ("does not degrade", "He et al. 2015, figure 6")}


def get_config(seeds="3"):
    config = cifar16_depth.get_config()
    config.model.residual = True
    config.keep_checkpoints = ()
    return config


def get_sweep(seeds="3"):
    warm_up = axis("optimizer.warmup_min_depth", [0, 110])  # With it, and as in the paper without it up to 110 layers.
    return product(axis("model.depth", [20, 56]), warm_up, axis("seed", range(int(seeds))))
