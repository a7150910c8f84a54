"""Stochastic gradient descent as in the paper, from optax."""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict


def learning_rate(config: ConfigDict, depth: int) -> optax.Schedule:
    """Return the learning rate as a function of the steps already made (paper, section 4.2).

    The warm-up of very deep nets has a fixed length, so that the rate depends on nothing but the step and is the same
    for a plain net and its residual twin.

    Args:
      config: the ``optimizer`` part of a run's config.
      depth: weighted layers of the net.
    """
    drops = dict.fromkeys(config.milestones, config.factor)
    stepwise = optax.piecewise_constant_schedule(config.learning_rate, drops)
    if depth < config.warmup_min_depth:
        return stepwise

    def warmed_up(step: jax.typing.ArrayLike) -> jax.Array:
        return jnp.where(step < config.warmup_steps, config.warmup_learning_rate, stepwise(step))

    return warmed_up


def sgd(config: ConfigDict, rate: optax.Schedule) -> optax.GradientTransformation:
    """Return SGD with momentum whose weight decay is added to the gradient before the momentum, for all parameters."""
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.sgd(rate, momentum=config.momentum, nesterov=False),
    )
