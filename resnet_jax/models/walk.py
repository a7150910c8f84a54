"""One traced walk over a net: its modules in the order of the forward pass, their shapes and laws.

Nothing is computed: the net is traced on shapes. Counts, initial values, stacking, the finder of non-finite layers and
gates all read this walk.
"""

import itertools
import math
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.core.meta
import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.models.layers.flax_laws import Call, law_of
from resnet_jax.models.layers.init import Declared, Law, declaring
from resnet_jax.models.stacking import Path, assemble, loop_of, unstacked


class Variable(NamedTuple):
    """A variable of one block: its shape and the law of its initial value."""

    shape: tuple[int, ...]
    law: Law


class Layer(NamedTuple):
    """A module of a net: a convolution, norm or fully connected layer, or a block, stage or stem made of these.

    Attributes:
      path: path in the variables, where alike blocks are one, as ("stage2", "blocks", "conv1").
      block: index of its block among the blocks stacked at ``path``; None outside of loops.
      output_shape: shape of the output without the batch, as ``(height, width, channels)``.
      variables: its own variables, by collection and name, as ("params", "kernel").
    """

    path: Path
    block: int | None
    output_shape: tuple[int, ...]
    variables: dict[tuple[str, str], Variable]

    @property
    def name(self) -> str:
        """The path with a block's own name, as "stage2/block3/conv1"."""
        return "/".join(unstacked(self.path, self.block))

    @property
    def is_block(self) -> bool:
        """Whether it is a block of a stage."""
        return re.fullmatch(r"block\d+", unstacked(self.path, self.block)[-1]) is not None

    @property
    def parameters(self) -> int:
        """The number of its own trainable numbers."""
        shapes = [variable.shape for (collection, _), variable in self.variables.items() if collection == "params"]
        return sum(map(math.prod, shapes))

    @property
    def multiply_adds(self) -> int:
        """Its own multiply-adds for one image, if it is a convolution or a fully connected layer, else 0."""
        kernel = self.variables.get(("params", "kernel"))
        return math.prod(self.output_shape[:-1]) * math.prod(kernel.shape) if kernel else 0


def walk(model: nn.Module, image_shape: tuple[int, ...]) -> list[Layer]:
    """Return the layers of ``model`` for images ``(height, width, channels)``, in the order in which they end.

    So a block follows its convolutions, and the blocks of a loop follow each other one by one.

    A variable whose module declares no law of ``layers/init.py`` has the law of its module's own initialiser.

    Raises:
      UserError: a variable belongs to no module of the net that is called, a run does not keep it, or it has no law.
    """
    variables, calls = trace(model, image_shape)
    own: dict[Path, dict[tuple[str, str], Variable]] = {}
    lengths: dict[Path, int] = {}
    for (collection, *names, name), leaf in flatten(variables).items():
        path, title = tuple(names), "/".join((*names, name))
        if path not in calls:
            raise UserError(f"{title} belongs to no module within the net that is called; make it a module's own.")
        if collection not in ("params", "batch_stats"):
            raise UserError(f"{title} is in collection {collection!r}; runs keep only params and batch_stats.")
        loop, shape = loop_of(path), flax.core.meta.unbox(leaf).shape
        if loop is not None:
            lengths[loop], *shape = shape  # In a loop the first axis counts the blocks.
        law = leaf.law if isinstance(leaf, Declared) else law_of(calls[path], collection, name, tuple(shape), title)
        own.setdefault(path, {})[collection, name] = Variable(tuple(shape), law)

    def layer(path: Path, index: int | None) -> Layer:
        return Layer(path, index, calls[path].output_shape, own.get(path, {}))

    layers = []
    for loop, members in itertools.groupby(calls, loop_of):
        paths, blocks = list(members), [None] if loop is None else range(lengths[loop])
        layers += [layer(path, index) for index in blocks for path in paths]
    return layers


def block_names(model: nn.Module, image_shape: tuple[int, ...]) -> list[str]:
    """Return the blocks of ``model`` in forward order, as "stage2/block3"."""
    return [layer.name for layer in walk(model, image_shape) if layer.is_block]


def trace(model: nn.Module, image_shape: tuple[int, ...]) -> tuple[dict[str, Any], dict[Path, Call]]:
    """Return the variables of ``model`` on shapes, boxed with the laws they declare, and the call of each module."""
    calls: dict[Path, Call] = {}

    def watch(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = call(*args, **kwargs)
        if context.method_name == "__call__" and context.module.path:
            # A loop's body is traced more than once.
            calls.setdefault(context.module.path, Call.of(context.module, args, kwargs, output))
        return output

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with nn.intercept_methods(watch), declaring():
        variables = jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)
    return variables, calls


def flatten(variables: dict[str, Any]) -> dict[Path, Any]:
    """Return boxed ``variables`` by their paths."""
    return flax.traverse_util.flatten_dict(variables, is_leaf=lambda _, leaf: isinstance(leaf, Declared))


def template(model: nn.Module, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """Return arrays of the shapes of the variables of ``model``, for images of ``image_shape``; they take no memory."""
    variables, _ = trace(model, image_shape)
    return jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), flax.core.meta.unbox(variables))


def initial_variables(model: nn.Module, seed: int, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the initial ``{"params": ..., "batch_stats": ...}`` of ``model``, float32.

    Each variable of each block is drawn by its law, addressed by the seed and its own path. So nets share the values of
    the variables they share, on every backend.

    Args:
      model: a module called as ``model(images, train=...)``.
      seed: any non-negative integer.
      image_shape: ``(height, width, channels)``.
    """

    def draw() -> Iterator[tuple[Path, int | None, np.ndarray]]:
        for layer in walk(model, image_shape):
            for (collection, name), variable in layer.variables.items():
                path = (collection, *layer.path, name)
                address = zlib.crc32("/".join(unstacked(path, layer.block)).encode())
                yield path, layer.block, variable.law.draw(np.random.default_rng([seed, address]), variable.shape)

    return assemble(draw())
