"""Parameters and multiply-adds of a net, counted from shapes alone."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from rich.table import Table

from resnet_jax.models.resnet import REST


class Part(NamedTuple):
    """A top-level part of a net (stem, a stage, head) for images of one size."""

    name: str
    output_shape: tuple[int, ...]
    """Without the batch dimension: ``(height, width, channels)``, of the head ``(classes,)``."""
    blocks: int
    parameters: int
    multiply_adds: int
    """Multiply-adds of convolutions and fully connected layers for one image, as in table 1 of the paper."""


def count_parameters(params: Mapping[str, Any]) -> int:
    """Return the number of trainable numbers in ``params``."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def describe(model: nn.Module, image_shape: tuple[int, ...]) -> list[Part]:
    """Return the parts of ``model`` in the order of the forward pass, for images ``(height, width, channels)``.

    Nothing is computed: the net is traced on shapes.
    """
    outputs: dict[str, tuple[int, ...]] = {}
    work_of: dict[tuple[str, ...], int] = {}

    def watch(
        call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext
    ) -> Any:
        output = call(*args, **kwargs)
        module, path = context.module, context.module.path
        if path and context.method_name == "__call__":
            if isinstance(module, nn.Conv | nn.Dense):
                kernel = module.variables["params"]["kernel"]
                work_of[path] = math.prod(output.shape[1:-1]) * math.prod(kernel.shape)
            if len(path) == 1:
                outputs[path[0]] = output.shape[1:]
        return output

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with nn.intercept_methods(watch):
        variables = jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)
    params = variables["params"]

    def repeats(part: str) -> int:
        """Return how many blocks the loop of ``part`` runs over: the length of its stacked parameters."""
        return jax.tree.leaves(params[part][REST])[0].shape[0] if REST in params[part] else 0

    return [
        Part(
            name,
            shape,
            blocks=("block0" in params[name]) + repeats(name),
            parameters=count_parameters(params[name]),
            multiply_adds=sum(
                work * (repeats(name) if REST in path else 1) for path, work in work_of.items() if path[0] == name
            ),
        )
        for name, shape in outputs.items()
    ]


def totals(parts: list[Part]) -> tuple[int, int]:
    """Return the parameters and multiply-adds of all ``parts``."""
    return sum(part.parameters for part in parts), sum(part.multiply_adds for part in parts)


def architecture_table(parts: list[Part], image_shape: tuple[int, ...]) -> Table:
    """Return ``parts``, as ``describe`` gives them for images of ``image_shape``, as a table with their sums."""
    table = Table(title=f"input {shape_text(image_shape)}", show_footer=True)
    parameters, multiply_adds = totals(parts)
    sums = {
        "stage": "total",
        "output": "",
        "blocks": f"{sum(part.blocks for part in parts)}",
        "parameters": f"{parameters:,}",
        "multiply-adds": f"{multiply_adds:,}",
    }
    for column, footer in sums.items():
        table.add_column(column, footer, justify="left" if column == "stage" else "right")
    for name, shape, blocks, *counts in parts:
        table.add_row(name, shape_text(shape), f"{blocks or ''}", *(f"{count:,}" for count in counts))
    return table


def shape_text(shape: tuple[int, ...]) -> str:
    """Return ``shape`` as in "32x32x3"."""
    return "x".join(map(str, shape))
