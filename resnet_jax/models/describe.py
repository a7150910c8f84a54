"""Parameters and multiply-adds of a net, counted from its shapes."""

from typing import NamedTuple

import flax.linen as nn
from rich.table import Table

from resnet_jax.models.walk import Layer, walk


class Part(NamedTuple):
    """A top-level part of a net (stem, a stage, head) for images of one size."""

    name: str
    output_shape: tuple[int, ...]
    """Without the batch dimension: ``(height, width, channels)``, of the head ``(classes,)``."""
    blocks: int
    parameters: int
    multiply_adds: int
    """Multiply-adds of convolutions and fully connected layers for one image, as in table 1 of the paper."""


def describe(model: nn.Module, image_shape: tuple[int, ...]) -> list[Part]:
    """Return the parts of ``model`` in the order of the forward pass, for images ``(height, width, channels)``."""
    layers = walk(model, image_shape)

    def part(top: Layer) -> Part:
        inside = [layer for layer in layers if layer.path[0] == top.path[0]]
        return Part(
            top.name,
            top.output_shape,
            blocks=sum(layer.is_block for layer in inside),
            parameters=sum(layer.parameters for layer in inside),
            multiply_adds=sum(layer.multiply_adds for layer in inside),
        )

    return [part(layer) for layer in layers if len(layer.path) == 1]


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
