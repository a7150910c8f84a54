"""Does depth degrade the training of plain nets on real photographs that a CPU can train on?

Protocol: plain and residual nets of 20 and 56 layers, three seeds each, on CIFAR-10 at 16x16 pixels, each the mean of
2x2 of the original. The paper's recipe in proportion: 4,000 steps of 128 images (10 epochs), the learning rate dropping
after a half and three quarters of them, padding 2 instead of 4, flips. About 70 minutes a seed on two CPU cores,
estimated from the time of a step:

    python -m experiments.sweep --config=configs/sweeps/cifar16_depth.py
    python -m experiments.diagnose runs/cifar16_depth
    python -m experiments.compare runs/cifar16_depth

It does not show: the paper's errors, as images have a quarter of its pixels and steps are a sixteenth of its 64,000.

Literature: plain-56 has higher training error than plain-20 throughout training, residual nets have lower error the
deeper they are (He et al. 2015, arXiv 1512.03385, figure 6). On ImageNet at 16x16, 32x32 and 64x64 pixels the best
hyperparameters appear to remain similar (Chrabaszcz, Loshchilov and Hutter 2017, arXiv 1707.08819).
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, product

LITERATURE = {
    "plain": ("degrades", "He et al. 2015, figure 6"),
    "residual": ("does not degrade", "He et al. 2015, figure 6"),
}


def get_config():
    config = recipes.cifar(depth=20, residual=False)
    config.data.downsample = 2
    config.data.padding = 2
    config.steps = 4_000
    config.eval_every = 1_000
    config.keep_checkpoints = (0, 1, 10, 100)
    return config


def get_sweep():
    return product(axis("model.residual", [False, True]), axis("model.depth", [20, 56]), axis("seed", range(3)))
