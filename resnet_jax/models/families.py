"""Which nets there are: from ``config.model`` to a module.

A family is a function of ``config.model``; a later family is another row of ``FAMILIES``.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from resnet_jax.errors import UserError
from resnet_jax.models.resnet import BasicBlock, BottleneckBlock, ResNet

SHORTCUTS = ("A", "B", "C")
BOTTLENECK_STRIDES = ("first", "middle")
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

# Paper, table 1: blocks in conv2_x to conv5_x.
IMAGENET_STAGES = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (BottleneckBlock, (3, 4, 6, 3)),
    101: (BottleneckBlock, (3, 4, 23, 3)),
    152: (BottleneckBlock, (3, 8, 36, 3)),
}


def cifar_net(config: ConfigDict) -> dict[str, Any]:
    """Return the architecture of a CIFAR net: depth 6n+2, three stages of n blocks (paper, section 4.2)."""
    blocks, remainder = divmod(config.depth - 2, 6)
    if remainder or blocks < 1:
        below = config.depth - remainder
        near = f"depths near it are {below} and {below + 6}" if blocks >= 1 else "the least depth is 8"
        raise UserError(f"config.model.depth={config.depth} is not 6n+2 with n of at least 1; {near}.")
    block = functools.partial(BasicBlock, residual=config.residual, shortcut=config.shortcut)
    return {"stage_sizes": (blocks,) * 3, "widths": (16, 32, 64), "block": block}


def imagenet_net(config: ConfigDict) -> dict[str, Any]:
    """Return the architecture of an ImageNet net of table 1 of the paper."""
    if config.depth not in IMAGENET_STAGES:
        raise UserError(
            f"config.model.depth={config.depth} is no depth of the imagenet family; "
            f"choose one of {', '.join(map(str, IMAGENET_STAGES))}."
        )
    block_type, stage_sizes = IMAGENET_STAGES[config.depth]
    block: Callable = functools.partial(block_type, residual=config.residual, shortcut=config.shortcut)
    if block_type is BottleneckBlock:
        block = functools.partial(block, stride_on_first=config.bottleneck_stride == "first")
    return {"stage_sizes": stage_sizes, "widths": (64, 128, 256, 512), "block": block, "imagenet_stem": True}


FAMILIES: dict[str, Callable[[ConfigDict], dict[str, Any]]] = {"cifar": cifar_net, "imagenet": imagenet_net}


def series_title(model: Mapping[str, Any]) -> str:
    """Return what nets that differ in depth alone are called, as "plain"; ``model`` has the fields of config.model."""
    return "residual" if model["residual"] else "plain"


def title(model: Mapping[str, Any]) -> str:
    """Return what a net is called, as "plain-56"; ``model`` has the fields of config.model."""
    return f"{series_title(model)}-{model['depth']}"


def fields_read(model: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields of config.model that nets of this series depend on; a plain net has no shortcut."""
    shortcut = ("shortcut",) if model["residual"] else ()
    stride = ("bottleneck_stride",) if model["family"] == "imagenet" else ()
    return ("family", "depth", "residual", *shortcut, *stride)


def build(
    config: ConfigDict,
    num_classes: int,
    dtype: str = "float32",
    axis_name: str | None = None,
    unroll: bool = False,
    remat: bool = False,
) -> ResNet:
    """Return the net that ``config`` (the ``model`` part of a run's config) describes.

    Args:
      config: fields family, depth, residual, shortcut and bottleneck_stride, one of the choices above each.
      num_classes: width of the head.
      dtype: type of the computation, "float32" or "bfloat16".
      axis_name: device axis for synchronised batch norm; None for statistics of each device.
      unroll: whether the loops over blocks are written out.
      remat: whether the backward pass computes blocks anew to save memory.

    Raises:
      UserError: the family has no net of this depth.
    """
    return ResNet(
        **FAMILIES[config.family](config),
        num_classes=num_classes,
        dtype=DTYPES[dtype],
        axis_name=axis_name,
        unroll=unroll,
        remat=remat,
    )
