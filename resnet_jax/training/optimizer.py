"""Stochastic gradient descent as in the paper, its variants in later papers, and learning rates; from optax."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from resnet_jax.fields import LARGEST_FLOAT

SCHEDULES = ("step", "plateau", "exponential")
# By config.optimizer.name. TensorFlow's RMSProp has its mean squares start at 1.
OPTIMIZERS: dict[str, Callable[[ConfigDict, optax.Schedule], optax.GradientTransformation]] = {
    "sgd": lambda config, rate: optax.sgd(rate, config.momentum, config.nesterov),
    "rmsprop": lambda config, rate: optax.rmsprop(
        rate,
        config.rmsprop_decay,
        config.rmsprop_epsilon,
        initial_scale=1.0,
        eps_in_sqrt=True,
        momentum=config.momentum,
        nesterov=config.nesterov,
    ),
}


def learning_rate(config: ConfigDict, depth: int, steps: int) -> optax.Schedule:
    """Return the learning rate as a function of the steps already made (paper, section 4.2).

    The warm-up of very deep nets has a fixed length, so that this rate depends on nothing but the step and is the same
    for a plain net and its residual twin. ``plateau_scale`` is the factor that plateaus add.

    Args:
      config: the ``optimizer`` part of a run's config.
      depth: weighted layers of the net.
      steps: number of steps of the run.
    """
    falling = falling_rate(config, steps)

    def warmed_up(step: jax.typing.ArrayLike) -> jax.Array:
        return jnp.where(step < config.warmup_steps, config.warmup_learning_rate, falling(step))

    rate = falling if depth < config.warmup_min_depth else warmed_up
    if config.rampup_fraction == 1:
        return rate
    fraction = optax.linear_schedule(config.rampup_fraction, 1.0, config.rampup_steps)
    return lambda step: rate(step) * fraction(step)


def falling_rate(config: ConfigDict, steps: int) -> optax.Schedule:
    """Return the learning rate without warm-up, ramp-up and plateaus; arguments as in ``learning_rate``."""
    if config.schedule == "exponential":
        by_period = optax.exponential_decay(config.learning_rate, 1, config.factor)
        # optax's own staircase divides in float32, and so at some multiples of decay_steps comes a step too late.
        return lambda step: by_period(step // config.decay_steps)
    factors: dict[int, float] = {}
    for drop in drops(config, steps):
        factors[drop] = min(factors.get(drop, 1.0) * config.factor, LARGEST_FLOAT)
    return optax.piecewise_constant_schedule(config.learning_rate, factors)


def drops(config: ConfigDict, steps: int) -> list[int]:
    """Return the steps, at least 1, of the milestones, at which the learning rate is multiplied by the factor.

    Milestones are fractions of ``steps``; in a short run several may be one step. Schedules other than "step" have
    none.

    Args:
      config: the ``optimizer`` part of a run's config.
      steps: number of steps of the run.
    """
    milestones = config.milestones if config.schedule == "step" else ()
    return [max(1, round(fraction * steps)) for fraction in milestones]


def descent(config: ConfigDict, rate: optax.Schedule) -> optax.GradientTransformationExtraArgs:
    """Return the optimiser of ``config``; weight decay is added to the gradient before all else.

    Under schedule "plateau" its ``update`` needs the loss of the step as ``value``. The mean loss of a window improves
    if it is below the best one by 0.01 % of the latter, optax's tolerance.

    Args:
      config: the ``optimizer`` part of a run's config.
      rate: the learning rate before plateaus.
    """
    # Without a mask the state has the structure of older checkpoints.
    decay = optax.add_decayed_weights(config.weight_decay, None if config.decay_vectors else are_kernels)
    parts = [decay, OPTIMIZERS[config.name](config, rate)]
    if config.schedule == "plateau":
        parts.append(
            optax.contrib.reduce_on_plateau(
                config.factor, config.plateau_patience, accumulation_size=config.plateau_window
            )
        )
    if config.average_decay:
        parts.append(average_parameters(config.average_decay))
    return optax.chain(*parts)


def are_kernels(params: Any) -> Any:
    """Return a bool for each of ``params``: whether it is a kernel, not a vector or a number, blocks stacked or not."""
    return jax.tree.map_with_path(lambda path, leaf: path[-1].key == "kernel", params)


class AverageState(NamedTuple):
    """State of ``average_parameters``.

    Attributes:
      average: the averaged parameters.
    """

    average: Any


def average_parameters(decay: float) -> optax.GradientTransformation:
    """Return a transformation that averages the parameters and leaves the updates unchanged; the last of a chain.

    After each update ``average <- average + (1 - decay) * (parameters - average)``, as in TensorFlow. It starts from
    the initial parameters, whose weight in it is ``decay**n`` after n steps: there is no bias correction.
    """

    def init(params: Any) -> AverageState:
        return AverageState(jax.tree.map(jnp.copy, params))

    def update(updates: Any, state: AverageState, params: Any = None) -> tuple[Any, AverageState]:
        new = optax.apply_updates(params, updates)
        # Not optax.incremental_update: in float32 its two factors need not sum to 1, which scales a long average.
        return updates, AverageState(jax.tree.map(lambda old, new: old + (1 - decay) * (new - old), state.average, new))

    return optax.GradientTransformation(init, update)


def evaluated_params(params: Any, opt_state: Any) -> Any:
    """Return the parameters that are evaluated: their running average where ``opt_state`` has one, else ``params``."""
    return next((part.average for part in opt_state if isinstance(part, AverageState)), params)


def plateau_scale(opt_state: Any) -> jax.Array:
    """Return the factor by which plateaus have scaled the learning rate, a float32 scalar; 1 under other schedules."""
    plateaus = (part.scale for part in opt_state if isinstance(part, optax.contrib.ReduceLROnPlateauState))
    return next(plateaus, jnp.ones(()))
