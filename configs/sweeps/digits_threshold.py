"""How many steps do plain nets need to a training loss of 1, as they get deeper, if they are given enough?

Protocol: plain nets of nine depths at two constant learning rates, until the running training loss is below 0.5, at
most for 3,000 steps; five seeds, others than those by which digits_rates chose its rates. Exponential, power law and
quadratic, in which the logarithm of the steps bends with depth, are compared; each has a random effect of depth,
because the seeds of one depth share what is peculiar to it.

Prediction, written before the runs: the steps grow by 1.5 to 2 for every ten layers at both rates, faster the deeper,
so that the quadratic fits best.

It does not show: residual nets, which digits_rates has; the steps at falling rates, or to a low test error; the digits
are easy.

Literature: "we conjecture that the deep plain nets may have exponentially low convergence rates" (He et al. 2015, arXiv
1512.03385, section 4.1). For linear nets of one unit a layer the number of steps is exponential in depth (Shamir 2018,
arXiv 1809.08587).
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, product


def get_config():
    config = recipes.digits(depth=20, residual=False)
    config.steps = 3_000
    config.stop_below_loss = 0.5
    config.optimizer.milestones = ()
    config.log_every = 4
    config.eval_every = config.checkpoint_every = 500
    return config


def get_sweep():
    return product(
        axis("model.depth", [8, 14, 20, 26, 32, 38, 44, 50, 56]),
        axis("optimizer.learning_rate", [0.003, 0.01]),
        axis("seed", range(5, 10)),
    )
