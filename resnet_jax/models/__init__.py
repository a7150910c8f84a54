"""Networks: from ``config.model`` to a Flax module. Another kind of net is another row of ``FAMILIES``."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from resnet_jax.models import resnet
from resnet_jax.models.blocks import BottleneckBlock
from resnet_jax.models.describe import Part as Part
from resnet_jax.models.describe import architecture_table as architecture_table
from resnet_jax.models.describe import describe as describe
from resnet_jax.models.describe import totals as totals
from resnet_jax.models.gates import Gate as Gate
from resnet_jax.models.gates import gate_blocks as gate_blocks
from resnet_jax.models.stage import Path as Path
from resnet_jax.models.stage import stack as stack
from resnet_jax.models.stage import unstack as unstack
from resnet_jax.models.walk import Layer as Layer
from resnet_jax.models.walk import initial_variables as initial_variables
from resnet_jax.models.walk import template as template
from resnet_jax.models.walk import walk as walk

# The fields of ``config.model``, as a ConfigDict or another mapping.
Fields = Mapping[str, Any]

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Family(NamedTuple):
    """A kind of net.

    Attributes:
      make: returns the module, given ``config.model`` and the keywords ``num_classes``, ``dtype``, ``axis_name``,
        ``unroll`` and ``remat``; raises a UserError for a net that does not exist.
      title: what a net is called but for its depth, as "plain".
      fields: which fields of ``config.model`` a net depends on; comparisons ignore the others.
    """

    make: Callable[..., nn.Module]
    title: Callable[[Fields], str]
    fields: Callable[[Fields], tuple[str, ...]]


def plain_or_residual(model: Fields) -> str:
    """Return which of the two twins ``model`` is."""
    return "residual" if model["residual"] else "plain"


def resnet_fields(model: Fields) -> tuple[str, ...]:
    """Return the fields of a net of 2015; a plain one has no shortcut."""
    return ("depth", "residual", "shortcut") if model["residual"] else ("depth", "residual")


def imagenet_fields(model: Fields) -> tuple[str, ...]:
    """Return the same of an ImageNet net, of which the deep ones have bottlenecks."""
    stages = resnet.IMAGENET_STAGES.get(model["depth"])
    has_bottlenecks = stages is not None and stages[0] is BottleneckBlock
    return resnet_fields(model) + (("bottleneck_stride",) if has_bottlenecks else ())


FAMILIES = {
    "cifar": Family(resnet.cifar, plain_or_residual, resnet_fields),
    "imagenet": Family(resnet.imagenet, plain_or_residual, imagenet_fields),
}


def build(
    model: ConfigDict,
    num_classes: int,
    dtype: str = "float32",
    axis_name: str | None = None,
    unroll: bool = False,
    remat: bool = False,
) -> nn.Module:
    """Return the net that ``model``, the part of a run's config, describes.

    Args:
      model: its fields, of which the family reads ``fields_read``.
      num_classes: width of the head.
      dtype: type of the computation, "float32" or "bfloat16".
      axis_name: device axis for synchronised batch norm; None for statistics of each device.
      unroll: whether the loops over blocks are unrolled.
      remat: whether blocks are rematerialised in the backward pass to save memory.

    Raises:
      UserError: the family has no such net.
    """
    settings = {"dtype": DTYPES[dtype], "axis_name": axis_name, "unroll": unroll, "remat": remat}
    return FAMILIES[model.family].make(model, num_classes=num_classes, **settings)


def series_title(model: Fields) -> str:
    """Return what nets that differ from ``model`` in depth alone are called, as "plain"."""
    return FAMILIES[model["family"]].title(model)


def title(model: Fields) -> str:
    """Return what the net is called, as "plain-56"."""
    return f"{series_title(model)}-{model['depth']}"


def fields_read(model: Fields) -> tuple[str, ...]:
    """Return the names of the fields of ``config.model`` that the net depends on."""
    return ("family", *FAMILIES[model["family"]].fields(model))
