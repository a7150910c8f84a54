"""Stochastic gradient descent as in the paper, from optax."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from resnet_jax.config import LARGEST_FLOAT

SCHEDULES = ("step", "plateau")


def learning_rate(config: ConfigDict, depth: int, steps: int) -> optax.Schedule:
    """Return the learning rate as a function of the steps already made (paper, section 4.2).

    The warm-up of very deep nets has a fixed length, so that this rate depends on nothing but the step and is the same
    for a plain net and its residual twin. What plateaus have divided it by is ``plateau_scale``.

    Args:
      config: the ``optimizer`` part of a run's config.
      depth: weighted layers of the net.
      steps: of the run.
    """
    factors: dict[int, float] = {}
    for drop in drops(config, steps):
        factors[drop] = min(factors.get(drop, 1.0) * config.factor, LARGEST_FLOAT)
    stepwise = optax.piecewise_constant_schedule(config.learning_rate, factors)

    def warmed_up(step: jax.typing.ArrayLike) -> jax.Array:
        return jnp.where(step < config.warmup_steps, config.warmup_learning_rate, stepwise(step))

    rate = stepwise if depth < config.warmup_min_depth else warmed_up
    if config.rampup_fraction == 1:
        return rate
    fraction = optax.linear_schedule(config.rampup_fraction, 1.0, config.rampup_steps)
    return lambda step: rate(step) * fraction(step)


def drops(config: ConfigDict, steps: int) -> list[int]:
    """Return the steps, from 1 on, at which the learning rate is multiplied by the factor.

    They are the milestones, fractions of ``steps``; in a short run several may be one step. Schedule "plateau" has
    none.

    Args:
      config: the ``optimizer`` part of a run's config.
      steps: of the run.
    """
    milestones = config.milestones if config.schedule == "step" else ()
    return [max(1, round(fraction * steps)) for fraction in milestones]


def sgd(config: ConfigDict, rate: optax.Schedule) -> optax.GradientTransformationExtraArgs:
    """Return SGD with momentum whose weight decay is added to the gradient before the momentum, for all parameters.

    Under schedule "plateau" its ``update`` needs the loss of the step as ``value``. The mean loss of a window improves
    if it is below the best one by 0.01 % of that, optax's tolerance.
    """
    descent = (
        optax.add_decayed_weights(config.weight_decay),
        optax.sgd(rate, momentum=config.momentum, nesterov=False),
    )
    if config.schedule == "step":
        return optax.chain(*descent)
    plateau = optax.contrib.reduce_on_plateau(
        config.factor, config.plateau_patience, accumulation_size=config.plateau_window
    )
    return optax.chain(*descent, plateau)


def plateau_scale(opt_state: Any) -> jax.Array:
    """Return what plateaus have multiplied the learning rate by so far, a float32 scalar; 1 under schedule "step"."""
    last = opt_state[-1]
    return last.scale if isinstance(last, optax.contrib.ReduceLROnPlateauState) else jnp.ones(())
