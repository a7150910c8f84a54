"""Where a non-finite loss (inf or NaN) comes from: the first layer that is non-finite."""

import collections
import contextlib
import functools
import math
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from resnet_jax import data, identity, models
from resnet_jax.models import Layer
from resnet_jax.safe_files import read_json
from resnet_jax.schema import Number
from resnet_jax.training import scaling
from resnet_jax.training.checkpoints import Checkpoints
from resnet_jax.training.feed import open_feed
from resnet_jax.training.parallel import AXIS
from resnet_jax.training.program import Program, make_program, over_devices
from resnet_jax.training.step import (
    DeviceAugmentation,
    DeviceBatch,
    StepInputs,
    TrainState,
    gradients_of,
    training_batch,
)

# Whether each layer is finite, by the path of the layer: bools ``[blocks]``, outside loops ``[1]``.
Flags = dict[tuple[str, ...], jax.Array]


def first_layer(config: ConfigDict, workdir: pathlib.Path) -> str:
    """Return a message that names the first non-finite layer in the diverged run of ``config`` in ``workdir``.

    The steps since the last good checkpoint are repeated one by one, up to the first that leaves a non-finite loss or
    parameter; that step is then examined.
    """
    config = scaling.resolved(config, jax.device_count())
    recorded = read_json(workdir / "diverged.json", {"step": Number(1, config.steps, whole=True)})
    last = recorded["step"] if recorded else config.steps
    dataset = data.load(config.data)
    program = make_program(config, dataset.num_classes)
    with contextlib.closing(open_feed(dataset, config, program.mesh)) as feed:
        state = program.init(feed.image_shape)
        inputs = feed.examples._replace(**program.interventions(feed.image_shape)._asdict())
        layers = [layer for layer in models.walk(program.model, feed.image_shape) if layer.parameters]
        with Checkpoints(workdir / "checkpoints", run=identity.of_run(workdir)) as checkpoints:
            restored = checkpoints.restore(state, before=last)
        if restored is not None:
            state, _ = restored
        copy = jax.jit(functools.partial(jax.tree.map, jnp.copy))
        for step in range(int(state.step), last):
            before = copy(state)  # train_steps takes over the memory of its state.
            batches, _ = feed.train(range(step, step + 1), lambda: None)
            state, metrics = program.train_steps(state, inputs, batches)
            parameters = jax.device_get(finite_layers(state.params, layers))
            if not math.isfinite(metrics["loss"][0]) or not all(np.all(flags) for flags in parameters.values()):
                examined = examine(config, program, layers)(before, inputs, batches)
                outputs, gradients = jax.device_get(examined)
                return f"Step {step + 1}: {explanation(layers, outputs, gradients, parameters)}."
    return f"All steps up to {last} are finite when they are repeated."


def examine(config: ConfigDict, program: Program, layers: list[Layer]) -> Callable[..., tuple[Flags, Flags]]:
    """Return ``examine_step`` over all devices."""
    augmentation = DeviceAugmentation.of(config.data)
    on_device = functools.partial(
        examine_step,
        model=program.model,
        augmentation=augmentation,
        sync_batch_norm=config.batch_norm.sync,
        layers=layers,
    )
    return over_devices(on_device, config, program.mesh, batch_arguments=1, batch_axis=1)


def examine_step(
    state: TrainState,
    examples: StepInputs,
    batches: DeviceBatch,
    *,
    model: nn.Module,
    augmentation: DeviceAugmentation,
    sync_batch_norm: bool,
    layers: list[Layer],
) -> tuple[Flags, Flags]:
    """Return flags for finite outputs and for finite gradients of the layers in the single step of ``batches``.

    Runs on every device, with the axis ``AXIS`` bound; arguments as in ``train_steps``.
    """
    batch = jax.tree.map(lambda array: array[0], batches)
    images, labels = training_batch(examples, batch, state.step, augmentation)
    (_, (_, updates)), gradients = gradients_of(
        state,
        examples,
        images,
        labels,
        sync_batch_norm,
        model=model,
        mutable=("batch_stats", "intermediates"),
        capture_intermediates=True,
    )
    flags = finite_layers(updates["intermediates"], layers), finite_layers(gradients, layers)
    return jax.tree.map(lambda flag: jax.lax.pmin(flag.astype(jnp.int32), AXIS), flags)


def finite_layers(tree: Any, layers: list[Layer]) -> Flags:
    """Return whether all arrays of each of ``layers`` in ``tree`` are finite; their arrays have a first axis of blocks.

    Layers without arrays in ``tree`` are left out.
    """
    blocks = collections.Counter(layer.path for layer in layers)
    flags: Flags = {}
    for (*path, _), leaves in flax.traverse_util.flatten_dict(tree).items():
        layer = tuple(path)
        if layer in blocks:
            for leaf in jax.tree.leaves(leaves):
                finite = jnp.isfinite(leaf).reshape(blocks[layer], -1).all(axis=1)
                flags[layer] = flags.get(layer, True) & finite
    return flags


def explanation(layers: list[Layer], outputs: Flags, gradients: Flags, parameters: Flags) -> str:
    """Return a phrase that names the first non-finite layer in a step.

    Args:
      layers: in forward order.
      outputs: whether the outputs of the layers are finite.
      gradients: whether the gradients of their parameters are finite.
      parameters: whether their parameters are finite after the step.
    """

    def first(order: Iterable[Layer], flags: Flags) -> str | None:
        bad = (layer.name for layer in order if layer.path in flags and not flags[layer.path][layer.block or 0])
        return next(bad, None)

    if name := first(layers, outputs):
        return f"the output of {name} is the first that is non-finite"
    if name := first(reversed(layers), gradients):
        return f"all outputs are finite; in the backward pass, the gradient of {name} is the first that is non-finite"
    if name := first(layers, parameters):
        return f"all outputs and gradients are finite, but the update makes the parameters of {name} non-finite"
    return "the loss is non-finite, but every layer is finite"
