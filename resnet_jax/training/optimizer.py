"""Stochastic gradient descent as in the paper, from optax."""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from resnet_jax.errors import UserError


def learning_rate(config: ConfigDict, depth: int) -> optax.Schedule:
    """Return the learning rate as a function of the steps already made (paper, section 4.2).

    The warm-up of very deep nets has a fixed length, so that the rate depends on nothing but the step and is the same
    for a plain net and its residual twin.

    Args:
      config: the ``optimizer`` part of a run's config.
      depth: weighted layers of the net.

    Raises:
      UserError: the milestones are no rising steps.
    """
    milestones = tuple(config.milestones)
    if any(type(step) is not int for step in milestones) or any(
        later <= earlier for earlier, later in zip((0, *milestones), milestones, strict=False)
    ):
        raise UserError(f"config.optimizer.milestones={milestones} must be rising steps above 0, as (32000, 48000).")
    stepwise = optax.piecewise_constant_schedule(config.learning_rate, dict.fromkeys(milestones, config.factor))
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
