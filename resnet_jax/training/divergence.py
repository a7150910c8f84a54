"""Where a loss that is infinite or no number comes from: the first layer that is not finite."""

import contextlib
import functools
import itertools
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from resnet_jax import data
from resnet_jax.models.stage import REST
from resnet_jax.rundir import read_json
from resnet_jax.training import loop, parallel, scaling
from resnet_jax.training.checkpoints import Checkpoints
from resnet_jax.training.feed import Feed, open_feed
from resnet_jax.training.parallel import AXIS
from resnet_jax.training.step import Augmentation, Batch, DeviceData, TrainState, training_batch

# For each layer, by its path, whether it is finite: one bool for each block of a loop, outside loops a single one.
Flags = dict[tuple[str, ...], jax.Array]


class Layer(NamedTuple):
    """A convolution, batch norm or fully connected layer.

    Attributes:
      name: as in "stage2/block3/conv1".
      path: of its parameters, in which the blocks of a loop are one.
      block: which of the loop; None outside loops.
    """

    name: str
    path: tuple[str, ...]
    block: int | None


def first_layer(config: ConfigDict, workdir: pathlib.Path) -> str:
    """Return a sentence on the first layer that is not finite in the diverged run of ``config`` in ``workdir``.

    The steps since the last good checkpoint are made again, one by one, until one leaves a loss or a parameter that is
    not finite; that step is then examined.
    """
    config = scaling.resolved(config, jax.device_count())
    recorded = read_json(workdir / "diverged.json")
    last = recorded["step"] if recorded else config.steps
    dataset = data.load(config.data)
    program = loop.make_program(config, dataset.num_classes)
    with contextlib.closing(open_feed(dataset, config, program.mesh)) as feed:
        state = program.init(feed.image_shape)
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            restored = checkpoints.restore(state, before=last)
        if restored is not None:
            state, _ = restored
        copy = jax.jit(functools.partial(jax.tree.map, jnp.copy))
        for step in range(int(state.step), last):
            before = copy(state)  # The step gives the memory of its state to the next.
            batches, _ = feed.train(range(step, step + 1), lambda: None)
            state, metrics = program.train_steps(state, feed.data, batches)
            updated = jax.device_get(finite_layers(state.params))
            if not math.isfinite(metrics["loss"][0]) or not all(np.all(flag) for flag in updated.values()):
                return f"Step {step + 1}: {examine(config, program, before, feed, batches, updated)}."
    return f"All steps up to {last} are finite when they are made again."


def examine(
    config: ConfigDict,
    program: loop.Program,
    state: TrainState,
    feed: Feed,
    batches: Batch,
    updated: Flags,
) -> str:
    """Return what is the first that is not finite in the step from ``state`` on the one batch in ``batches``.

    ``updated`` says it of the parameters after the step.
    """
    examine_on_device = functools.partial(examine_step, model=program.model, augmentation=loop.augmentation(config))
    mapped = parallel.map_over_devices(
        examine_on_device,
        program.mesh,
        config.parallel.mapper,
        batch_arguments=1,
        batch_axis=1,
        own_batches=config.data.image_size is not None,
    )
    outputs, gradients = jax.device_get(mapped(state, feed.data, batches))
    forward = forward_order(program.model, feed.image_shape, jax.device_get(state.params))
    for flags, order, sentence in (
        (outputs, forward, "the output of {} is the first that is not finite"),
        (
            gradients,
            forward[::-1],
            "outputs are finite; going backwards, the gradient of {} is the first that is not",
        ),
        (updated, forward, "outputs and gradients are finite, but not the parameters of {} after the update"),
    ):
        for layer in order:
            if layer.path in flags and not flags[layer.path][layer.block or 0]:
                return sentence.format(layer.name)
    return "the loss is not finite, but every layer is"


def examine_step(
    state: TrainState, data: DeviceData, batches: Batch, *, model: nn.Module, augmentation: Augmentation
) -> tuple[Flags, Flags]:
    """Return of which layers the outputs, and of which the gradients, are finite in a step from ``state``.

    Runs on every device, with the axis ``AXIS`` bound; arguments are those of ``train_step``.
    """
    batch = jax.tree.map(lambda array: array[0], batches)
    images, labels = training_batch(data, batch, state.step, augmentation)

    def loss_of(params: Any) -> tuple[jax.Array, Any]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, updates = model.apply(
            variables, images, train=True, mutable=["batch_stats", "intermediates"], capture_intermediates=True
        )
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss, updates["intermediates"]

    params = jax.lax.pcast(state.params, AXIS, to="varying")
    gradients, outputs = jax.grad(loss_of, has_aux=True)(params)
    flags = finite_layers(outputs), finite_layers(gradients)
    return jax.tree.map(lambda flag: jax.lax.pmin(flag.astype(jnp.int32), AXIS), flags)


def finite_layers(tree: Any) -> Flags:
    """Return whether all arrays of each layer of ``tree`` are finite, ``[blocks]``, outside loops ``[1]``."""
    flags: Flags = {}
    for (*path, _), leaves in flax.traverse_util.flatten_dict(tree).items():
        for leaf in jax.tree.leaves(leaves):
            blocks = leaf.shape[0] if REST in path else 1
            finite = jnp.isfinite(leaf).reshape(blocks, -1).all(axis=1)
            flags[tuple(path)] = flags.get(tuple(path), True) & finite
    return flags


def forward_order(model: nn.Module, image_shape: tuple[int, ...], params: Any) -> list[Layer]:
    """Return the layers with parameters in the order of the forward pass, the blocks of loops one by one."""
    lengths = {path[:-1]: len(leaf) for path, leaf in flax.traverse_util.flatten_dict(params).items()}
    called: dict[tuple[str, ...], None] = {}

    def watch(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if context.method_name == "__call__" and context.module.path in lengths:
            called[context.module.path] = None
        return call(*args, **kwargs)

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with nn.intercept_methods(watch):
        jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)

    layers: list[Layer] = []
    for in_loop, paths in itertools.groupby(called, lambda path: path[: path.index(REST)] if REST in path else None):
        if in_loop is None:
            layers += [Layer("/".join(path), path, None) for path in paths]
            continue
        members = list(paths)
        for block in range(lengths[members[0]]):
            named = {path: "/".join(path).replace(REST, f"block{block + 1}") for path in members}
            layers += [Layer(name, path, block) for path, name in named.items()]
    return layers
