"""Programs to compile: the functions with which the project trains and evaluates, for devices that need not exist."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from configs import recipes
from resnet_jax import data, models
from resnet_jax.training import optimizer, parallel
from resnet_jax.training.program import Program, make_program
from resnet_jax.training.step import StepInputs, TrainState

STEPS_PER_DISPATCH = 100  # As in a run whose examples lie on the device; a stream feeds one step at a time.
EXAMPLES = 60_000  # CIFAR-10, which lies on the device.

ZOO: list[Callable[[], ConfigDict]] = [
    functools.partial(recipes.preact, 110),
    functools.partial(recipes.wide, 16, 4),
    functools.partial(recipes.densenet, 100, compression=0.5),
    functools.partial(recipes.inception, 44, True),
    functools.partial(recipes.imagenet_modern, 50, order="preactivation"),
    functools.partial(recipes.imagenet_densenet, 121),
    functools.partial(recipes.imagenet_inception, "inception_v4", 76, False),
    functools.partial(recipes.imagenet_inception, "inception_resnet_v2", 176, True),
]
RECIPES = [
    *(functools.partial(recipes.cifar, depth, residual) for depth in (20, 56, 110) for residual in (True, False)),
    *(functools.partial(recipes.imagenet, depth, True) for depth in (50, 152)),
    *ZOO,
    *(functools.partial(recipes.cifar, 1202, residual) for residual in (True, False)),
]
# config.compile.unroll, by the ``blocks`` of a case.
BLOCKS = {"usual": None, "looped": False}
NETS = {models.title(recipe().model): recipe for recipe in RECIPES}


class Case(NamedTuple):
    """A program to compile, in bfloat16.

    Attributes:
      net: its name in ``NETS``.
      batch: images of each device.
      blocks: "usual", looped or unrolled by platform and depth, or "looped".
      step: "training" or "evaluation".
      mapper: as of ``config.parallel.mapper``.
    """

    net: str
    batch: int
    blocks: str = "usual"
    step: str = "training"
    mapper: str = "shard_map"


def cases() -> list[Case]:
    """Return all programs, the most important first."""
    first = ("residual-20", "residual-56", "residual-50")
    listed = [Case(net, batch, blocks) for blocks in ("usual", "looped") for net in first for batch in (128, 32)]
    listed += [Case(net, 128, step="evaluation") for net in first]
    listed += [Case(net, 128, mapper="pmap") for net in first]
    zoo = [models.title(recipe().model) for recipe in ZOO]
    listed += [Case(net, batch) for batch in (128, 32) for net in NETS if net not in (*first, *zoo)]
    return listed + [Case(net, 32) for net in zoo]


def lower(case: Case, mesh: Mesh) -> tuple[jax.stages.Lowered, dict[str, Any]]:
    """Return the program of ``case`` for the devices of ``mesh``, not yet compiled, and facts about it."""
    config = NETS[case.net]()
    config.dtype = "bfloat16"
    config.batch_size = case.batch * mesh.size
    config.compile.unroll = BLOCKS[case.blocks]
    config.parallel.mapper = case.mapper
    image_shape, classes = data.shape(config.data)
    program = make_program(config, classes, mesh)
    state = state_shapes(config, program, image_shape)
    examples = abstract(example_shapes(config, image_shape, classes), mesh)
    training, streamed = case.step == "training", config.data.image_size is not None
    steps = STEPS_PER_DISPATCH if training and not streamed else 1
    size = (steps, config.batch_size) if training else (config.batch_size,)
    labels = jax.ShapeDtypeStruct(size, np.int32)
    batch = [(jax.ShapeDtypeStruct((*size, *image_shape), np.uint8), labels) if streamed else labels]
    if not training:
        batch.append(jax.ShapeDtypeStruct(size, np.float32))  # The weights of its examples.
    axes = (None, parallel.AXIS) if training else (parallel.AXIS,)
    function = program.train_steps if training else program.eval_step
    lowered = function.lower(state, examples, *abstract(batch, mesh, *axes))
    multiply_adds = models.totals(models.describe(program.model, image_shape))[1]
    return lowered, {
        "image": "x".join(map(str, image_shape)),
        "examples": "streamed" if streamed else "resident",
        "unrolled": program.model.unroll,
        "devices": mesh.size,
        "steps": steps,
        "parameters and statistics": sum(leaf.size for leaf in jax.tree.leaves((state.params, state.batch_stats))),
        # Two for a multiply-add; the gradients by activations and by kernels cost as much again, each.
        "operations a step": (6 if training else 2) * multiply_adds * case.batch,
    }


def state_shapes(config: ConfigDict, program: Program, image_shape: tuple[int, ...]) -> TrainState:
    """Return the shapes of the state that ``program`` trains."""

    def state() -> TrainState:
        variables = models.initial_variables(program.model, config.seed, image_shape)
        descent = optimizer.descent(config.optimizer, program.rate)
        params = variables["params"]
        return TrainState(np.zeros((), np.int32), params, variables.get("batch_stats", {}), descent.init(params))

    return abstract(jax.eval_shape(state), program.mesh)


def example_shapes(config: ConfigDict, image_shape: tuple[int, ...], classes: int) -> StepInputs:
    """Return the inputs of every step of ``config``, with shapes in place of examples that lie on the device."""
    one = data.Split(np.zeros((1, *image_shape), np.uint8), np.zeros(1, np.int32))
    mean, std = data.normalisation(data.Dataset(tuple(map(str, range(classes))), {"train": one}), config.data)
    images = labels = None
    if config.data.image_size is None:
        mean = np.broadcast_to(mean, image_shape)
        images = jax.ShapeDtypeStruct((EXAMPLES, math.prod(image_shape)), np.uint8)
        labels = jax.ShapeDtypeStruct((EXAMPLES,), np.int32)
    return StepInputs(images, labels, mean, np.uint32(config.seed), std=std)


def abstract(tree: Any, mesh: Mesh, *axes: str | None) -> Any:
    """Return the shapes and types of the arrays of ``tree``, divided along ``axes`` over the devices of ``mesh``."""
    sharding = NamedSharding(mesh, PartitionSpec(*axes))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
