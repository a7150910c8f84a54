"""Does the degradation of cifar16_depth remain if each net has the best learning rate of those tried?

Protocol: the four nets and the recipe of cifar16_depth at six learning rates; the published runs have the upper four.
5,000 training images are held out; each net is judged at the rate with the lowest validation error, and all at the
paper's 0.1. The number of seeds is chosen by --config=configs/sweeps/cifar16_tuned.py:1 and is 3 otherwise.

It does not show: the best recipe of each net, since weight decay, schedule and length are common to all.

Literature: 56 layers without shortcuts have 13.31 % test error on CIFAR-10 at a rate of 0.1 and 10.83 % at 0.01 (Li et
al. 2018, arXiv 1712.09913).
"""

from configs.sweeps import cifar16_depth
from resnet_jax.sweeps.grid import axis, product, tuned

LITERATURE = {
    "plain": ("degrades", "He et al. 2015, figure 6"),
    "residual": ("does not degrade", "He et al. 2015, figure 6"),
}


def get_config(seeds="3"):
    config = cifar16_depth.get_config()
    config.data.validation_examples = 5_000
    config.keep_checkpoints = ()
    return config


def get_sweep(seeds="3"):
    return product(
        axis("model.residual", [False, True]),
        axis("model.depth", [20, 56]),
        tuned("optimizer.learning_rate", [0.001, 0.003, 0.01, 0.03, 0.1, 0.3]),
        axis("seed", range(int(seeds))),
    )
