"""The compiled functions that train and evaluate the net of a config."""

import collections
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from resnet_jax import models
from resnet_jax.backend import DETERMINISTIC_FLAG
from resnet_jax.config import check, check_against_data
from resnet_jax.data import Facts
from resnet_jax.errors import UserError
from resnet_jax.hosts import any_process
from resnet_jax.training import lsuv, optimizer, parallel
from resnet_jax.training.interventions import Interventions, check_gates, interventions_of
from resnet_jax.training.step import DeviceAugmentation, DeviceBatch, StepInputs, TrainState, eval_step, train_steps

Metrics = dict[str, Any]

# Layers up to which the loops over blocks are unrolled unless config.compile.unroll says otherwise. A loop stores the
# inputs of the backward pass, which costs a GPU a kernel for each array and a TPU a fifth of the step. TPUs' compilers
# take minutes for deeper nets.
UNROLLED_DEPTH = {"gpu": 152, "tpu": 56}


class Program(NamedTuple):
    """The functions that train and evaluate the net of a config.

    Attributes:
      model: the net.
      mesh: the devices.
      rate: learning rate as a function of the steps made, before plateaus.
      init: ``(image_shape, variables=None, first_batch_images=None) -> state``, the initial state for images of shape
        ``(height, width, channels)``; from ``variables``, if given, instead of drawn values. LSUV needs the images of
        the first batch too.
      interventions: ``image_shape -> Interventions`` of the config, whole on every device.
      train_steps: ``(state, examples, batches) -> (state, metrics)`` over all devices, for the batches of a feed.
      eval_step: ``(state, examples, batch, weights) -> sums`` over all devices.
    """

    model: nn.Module
    mesh: Mesh
    rate: optax.Schedule
    init: Callable[..., TrainState]
    interventions: Callable[[tuple[int, ...]], Interventions]
    train_steps: Callable[..., tuple[TrainState, Metrics]]
    eval_step: Callable[..., Metrics]


def make_program(config: ConfigDict, num_classes: int, mesh: Mesh | None = None) -> Program:
    """Return the functions that train and evaluate the net of ``config``; they compile when they are first called.

    Args:
      config: with the fields of ``resnet_jax.fields``.
      num_classes: width of the head.
      mesh: the devices to train on; by default all.

    Raises:
      UserError: the config has a value that is not valid.
    """
    mesh = mesh or parallel.device_mesh()
    platform = parallel.platform(mesh)
    check(config, mesh.size)
    flags = os.environ.get("XLA_FLAGS", "")
    if config.deterministic and platform == "gpu" and DETERMINISTIC_FLAG not in flags:
        raise UserError(f"config.deterministic=True needs {DETERMINISTIC_FLAG} in XLA_FLAGS before JAX starts.")
    check_gates(config)
    model = build_net(config, num_classes, platform)
    rate = optimizer.learning_rate(config.optimizer, config.model.depth, config.steps)
    device_train_steps = functools.partial(
        train_steps,
        model=model,
        optimizer=optimizer.descent(config.optimizer, rate),
        augmentation=DeviceAugmentation.of(config.data),
        sync_batch_norm=config.batch_norm.sync,
        in_vectors=platform == "gpu",
    )
    device_eval_step = functools.partial(eval_step, model=model)
    return Program(
        model,
        mesh,
        rate,
        init=functools.partial(initial_state, config, model, mesh),
        interventions=lambda image_shape: parallel.replicate(interventions_of(config, model, image_shape), mesh),
        train_steps=over_devices(device_train_steps, config, mesh, batch_arguments=1, batch_axis=1, donate_state=True),
        eval_step=over_devices(device_eval_step, config, mesh, batch_arguments=2),
    )


def fitted(config: ConfigDict, facts: Facts, mesh: Mesh | None = None) -> tuple[Program, Interventions]:
    """Return the functions that train the net of ``config`` on data of ``facts``, and its interventions.

    Nothing is compiled, so a sweep checks its runs by this too.

    Args:
      config: with the fields of ``resnet_jax.fields``.
      facts: facts of the data set.
      mesh: the devices to train on; by default all.

    Raises:
      UserError: data, net, gates or devices do not fit the config.
    """
    check_against_data(config, facts.examples, facts.image_shape)
    program = make_program(config, facts.num_classes, mesh)
    return program, program.interventions(facts.image_shape)


def over_devices(function: Callable[..., Any], config: ConfigDict, mesh: Mesh, **options: Any) -> Callable[..., Any]:
    """Return ``function`` mapped according to ``config``; ``options`` are options of ``parallel.map_over_devices``."""
    streamed = config.data.image_size is not None
    return parallel.map_over_devices(function, mesh, config.parallel.mapper, own_batches=streamed, **options)


def build_net(config: ConfigDict, num_classes: int, platform: str | None = None) -> nn.Module:
    """Return the net that ``config`` trains, with a head of width ``num_classes``.

    ``platform`` is the platform of the devices it will run on, by default JAX's.
    """
    unroll = config.compile.unroll
    if unroll is None:
        unroll = config.model.depth <= UNROLLED_DEPTH.get(platform or jax.default_backend(), 0)
    return models.build(
        config.model,
        num_classes,
        config.dtype,
        parallel.AXIS,
        config.batch_norm.sync,
        unroll=unroll,
        remat=config.compile.remat,
    )


def initial_state(
    config: ConfigDict,
    model: nn.Module,
    mesh: Mesh,
    image_shape: tuple[int, ...],
    variables: Mapping[str, Any] | None = None,
    first_batch_images: np.ndarray | None = None,
) -> TrainState:
    """Return the state from which training of ``model`` starts, whole on every device of ``mesh``.

    The net has ``variables``, on the host; those that its seed draws if they are None. With ``first_batch_images``,
    normalised ``[batch, height, width, channels]``, kernels are scaled by LSUV.
    """
    if variables is None:
        variables = models.initial_variables(model, config.seed, image_shape)
    params = variables["params"]
    if first_batch_images is not None:
        params = lsuv.scaled(model, params, first_batch_images)
    rate = optimizer.learning_rate(config.optimizer, config.model.depth, config.steps)
    descent = optimizer.descent(config.optimizer, rate)
    batch_stats = variables.get("batch_stats", {})  # A net without batch norm has none.
    state = (np.zeros((), np.int32), params, batch_stats, descent.init(params))
    return TrainState(*parallel.replicate(state, mesh))


def evaluate(
    program: Program,
    state: TrainState,
    examples: StepInputs,
    batches: Iterable[tuple[DeviceBatch, Any]],
    stopping: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Return the mean "loss" and "error" (a fraction) of ``state`` over ``batches``, and their number of "examples".

    Args:
      program: program of the run.
      state: the net to evaluate, with its running statistics.
      examples: the examples on the devices.
      batches: batches and the weights of their examples.
      stopping: whether this process must stop.

    Returns:
      The means, or None if any process must stop.
    """
    totals = {"loss": 0.0, "error": 0.0, "weight": 0.0}
    launched = collections.deque[tuple[Metrics, Any]]()
    # The devices compute the newest batch while the host reads the one before, so that neither waits.
    for batch in itertools.chain(batches, [None]):
        if batch is not None:
            sums = program.eval_step(state, examples, *batch)
            launched.append((sums, any_process(stopping(), program.mesh)))
        if batch is None or len(launched) > 1:
            sums, stop = launched.popleft()
            if stop:
                return None
            for name in totals:
                totals[name] += float(sums[name])
    examples_seen = totals.pop("weight")
    means = {name: total / examples_seen if examples_seen else math.nan for name, total in totals.items()}
    return means | {"examples": examples_seen}
