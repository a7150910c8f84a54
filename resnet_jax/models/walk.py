"""One traced walk over a net: its modules in the order of the forward pass, their shapes and declared laws.

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

from resnet_jax.models.layers.init import Declared, Law, declaring
from resnet_jax.models.stacking import Path, assemble, loop_of, unstacked


class Variable(NamedTuple):
    """A variable of one block: its shape and the law of its initial value."""

    shape: tuple[int, ...]
    law: Law


class Layer(NamedTuple):
    """A module of a net: a convolution, norm or fully connected layer, or a block, stage or stem made of these.

    Attributes:
      path: in the variables, where alike blocks are one, as ("stage2", "rest", "conv1").
      block: its index among the blocks stacked at ``path``; None outside of loops.
      output_shape: without the batch, as ``(height, width, channels)``.
      variables: its own, by collection and name, as ("params", "kernel").
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

    Raises:
      TypeError: a module declares an initial value by no law of ``resnet_jax.models.layers.init``.
    """
    variables, outputs = trace(model, image_shape)
    own: dict[Path, dict[tuple[str, str], Declared]] = {}
    lengths: dict[Path, int] = {}
    for (collection, *path, name), leaf in flatten(variables).items():
        if not isinstance(leaf, Declared):
            raise TypeError(f"{'/'.join(path)}/{name} has no law of resnet_jax.models.layers.init as its initialiser")
        own.setdefault(tuple(path), {})[collection, name] = leaf
        loop = loop_of(tuple(path))
        if loop is not None:
            lengths[loop] = leaf.value.shape[0]

    def layer(path: Path, index: int | None) -> Layer:
        stacked = slice(0 if index is None else 1, None)  # The first axis of a loop is that of its blocks.
        its_own = {at: Variable(leaf.value.shape[stacked], leaf.law) for at, leaf in own.get(path, {}).items()}
        return Layer(path, index, outputs[path], its_own)

    layers = []
    for loop, members in itertools.groupby(outputs, loop_of):
        paths, blocks = list(members), [None] if loop is None else range(lengths[loop])
        layers += [layer(path, index) for index in blocks for path in paths]
    return layers


def trace(model: nn.Module, image_shape: tuple[int, ...]) -> tuple[dict[str, Any], dict[Path, tuple[int, ...]]]:
    """Return the variables of ``model`` on shapes, boxed with their laws, and the output shape of each module."""
    outputs: dict[Path, tuple[int, ...]] = {}

    def watch(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = call(*args, **kwargs)
        if context.method_name == "__call__" and context.module.path:
            outputs.setdefault(context.module.path, output.shape[1:])  # A loop's body is traced more than once.
        return output

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with nn.intercept_methods(watch), declaring():
        variables = jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)
    return variables, outputs


def flatten(variables: dict[str, Any]) -> dict[Path, Any]:
    """Return boxed ``variables`` by their paths."""
    return flax.traverse_util.flatten_dict(variables, is_leaf=lambda _, leaf: isinstance(leaf, Declared))


def template(model: nn.Module, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """Return arrays of the shapes of the variables of ``model``, for images of ``image_shape``; they take no memory."""
    variables, _ = trace(model, image_shape)
    return jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), flax.core.meta.unbox(variables))


def initial_variables(model: nn.Module, seed: int, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the initial ``{"params": ..., "batch_stats": ...}`` of ``model``, float32.

    Each variable of each block is drawn by the law that its module declares, addressed by the seed and its own path. So
    nets share the values of the variables they share, on every backend.

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
