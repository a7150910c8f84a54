"""Do plain nets learn exponentially more slowly with depth, at one learning rate and at the best tried of each?

Protocol: plain and residual nets of six depths at three constant learning rates, and further ones until the best is
neither the highest nor the lowest. Steps to a threshold of the training loss are compared over depth, runs that do not
reach it included as censored; and every net is judged at the best rate by validation error, because one rate for all
depths measures instability as much as the rate of convergence.

It does not show: convergence on data that take thousands of steps, or under a falling learning rate.

Literature: "we conjecture that the deep plain nets may have exponentially low convergence rates" (He et al. 2015, arXiv
1512.03385, section 4.1); 56 layers without shortcuts have 13.31 % test error on CIFAR-10 at a rate of 0.1 and 10.83 %
at 0.01 (Li et al. 2018, arXiv 1712.09913). For linear nets of one unit a layer the number of steps is exponential in
depth (Shamir 2018, arXiv 1809.08587).
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, chain, product, tuned

LITERATURE = {
    "plain": ("degrades", "He et al. 2015, figure 6"),
    "residual": ("does not degrade", "He et al. 2015, figure 6"),
}


def get_config():
    config = recipes.digits(depth=20, residual=False)
    config.optimizer.milestones = ()
    config.data.validation_examples = 250
    config.log_every = 4
    config.eval_every = 100
    return config


def get_sweep():
    rates = (0.01, 0.03, 0.1)
    lower, higher = (0.001, 0.003, *rates), (*rates, 0.3)
    plain = {8: (*higher, 1.0), 14: (*higher, 1.0), 20: higher, 32: rates, 44: lower, 56: (0.0003, *lower)}
    residual = {8: rates, 14: higher, 20: higher, 32: higher, 44: rates, 56: rates}
    nets = [
        product([{"model.residual": is_residual, "model.depth": depth}], tuned("optimizer.learning_rate", rates))
        for is_residual, of_depth in ((False, plain), (True, residual))
        for depth, rates in of_depth.items()
    ]
    return product(chain(*nets), axis("seed", range(3)))
