"""The families of nets: from ``config.model`` to a Flax module, its title and the fields it depends on.

Another kind of net is another row of ``FAMILIES``.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from resnet_jax.config import default
from resnet_jax.fields import FIELDS
from resnet_jax.models import resnet
from resnet_jax.models.variants import VARIANTS, Variant
from resnet_jax.models.zoo import densenet, inception

# The fields of ``config.model``, as a ConfigDict or another mapping.
Fields = Mapping[str, Any]

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Family(NamedTuple):
    """A kind of net.

    Attributes:
      make: returns the module, given ``config.model`` and the keywords ``num_classes``, ``dtype``, ``axis_name``,
        ``sync_batch_norm``, ``unroll`` and ``remat``; raises a UserError for a net that does not exist.
      title: returns the name of a net, with the placeholder ``{depth}``, as "plain-{depth}".
      fields: returns the fields of ``config.model`` that a net depends on; comparisons ignore the others.
      has_gates: whether its blocks read the collection "gates".
    """

    make: Callable[..., nn.Module]
    title: Callable[[Fields], str]
    fields: Callable[[Fields], tuple[str, ...]]
    has_gates: bool = True


# Remedies for degradation, in the order in which titles name them.
REMEDY_FIELDS = ("branch_scaling", "parametrization", "init", "activation")


def variant_of(model: Fields, field: str) -> Variant:
    """Return the variant that ``model`` chooses for ``field``."""
    return VARIANTS[field][model[field]]


def titles(model: Fields, *fields: str) -> str:
    """Return the titles of the choices of ``model`` for ``fields`` that are not defaults, as "looks-linear CReLU "."""
    words = [
        model[field] if variant_of(model, field).title is None else variant_of(model, field).title
        for field in fields
        if model[field] != FIELDS[f"model.{field}"].default
    ]
    return "".join(f"{word} " for word in words)


def resnet_title(model: Fields) -> str:
    """Return the title of a plain or residual net: remedies, order and block where not the default, and the width."""
    order = titles(model, "order") if "order" in resnet_fields(model) else ""
    block = titles(model, "block") if model["family"] == "cifar" else ""
    twin = "residual" if model["residual"] else "plain"
    width = "" if model["widening"] == 1 else f"-{model['widening']:g}"
    return f"{titles(model, *REMEDY_FIELDS)}{order}{block}{twin}-{{depth}}{width}"


def wide_title(model: Fields) -> str:
    """Return the name of a wide net in its paper, such as "WRN-28-10"."""
    return f"{titles(model, *REMEDY_FIELDS)}{'' if model['residual'] else 'plain '}WRN-{{depth}}-{model['widening']:g}"


def wide_fields(model: Fields) -> tuple[str, ...]:
    """Return the fields of a wide net."""
    norm = () if "norm" in variant_of(model, "branch_scaling").implies else ("norm",)
    return (*inner_fields(model), *norm, *REMEDY_FIELDS)


def inner_fields(model: Fields) -> tuple[str, ...]:
    """Return the fields that wide and residual Inception nets share."""
    survival = ("survival", "survival_rule") if model["survival"] < 1 else ("survival",)
    return ("depth", "residual", "widening", "dropout", *survival)


def resnet_fields(model: Fields) -> tuple[str, ...]:
    """Return the fields of a cifar net; a plain one has no shortcut, and a scaled branch brings its own order."""
    fields = ["block"]
    if model["residual"] and "around" not in variant_of(model, "block").options(model):
        fields.append("shortcut")
    if "order" not in variant_of(model, "branch_scaling").implies:
        fields.append("order")
    reads = [name for field in fields for name in variant_of(model, field).reads]
    return (*wide_fields(model), *fields, *reads)


def imagenet_fields(model: Fields) -> tuple[str, ...]:
    """Return the fields of an ImageNet net, whose block follows from its depth."""
    block, _ = resnet.IMAGENET_STAGES.get(model["depth"], ("basic", ()))
    fields = resnet_fields(complete({**model, "block": block}))
    return tuple(name for name in fields if name != "block")


def dense_title(model: Fields) -> str:
    """Return the name of a DenseNet in its paper, such as "DenseNet-BC-100-12"."""
    compression = model["compression"]
    kind = "BC-" if compression < 1 and model["family"] == "densenet" else ""
    other = "" if compression in (0.5, 1) else f" compression {compression:g}"
    return f"{'' if model['residual'] else 'plain '}DenseNet-{kind}{{depth}}-{model['growth']}{other}"


def dense_fields(model: Fields) -> tuple[str, ...]:
    """Return the fields of a DenseNet."""
    return ("depth", "residual", "growth", "compression", "dropout")


def small_inception_title(model: Fields) -> str:
    """Return the title of an Inception net for small images: the twin, the depth and the width."""
    width = "" if model["widening"] == 1 else f"-{model['widening']:g}"
    return f"Inception {'residual' if model['residual'] else 'plain'}-{{depth}}{width}"


def imagenet_inception_title(model: Fields) -> str:
    """Return the name of an ImageNet Inception net in its paper; its depth is a constant."""
    net, title = inception.IMAGENET_NETS[model["family"]]
    return f"plain {title}" if inception.is_residual(net) and not model["residual"] else title


def inception_fields(model: Fields) -> tuple[str, ...]:
    """Return the fields of an Inception net for small images; a plain one has nothing to drop or to scale."""
    if not model["residual"]:
        return ("depth", "residual", "widening", "dropout")
    return (*inner_fields(model), "residual_scale")


def imagenet_inception_fields(model: Fields) -> tuple[str, ...]:
    """Return the fields of an Inception net for ImageNet, whose widths are constants."""
    return tuple(name for name in inception_fields(model) if name != "widening")


FAMILIES = {
    "cifar": Family(resnet.cifar, resnet_title, resnet_fields),
    "imagenet": Family(resnet.imagenet, resnet_title, imagenet_fields),
    "wide": Family(resnet.wide, wide_title, wide_fields),
    "densenet": Family(densenet.small, dense_title, dense_fields, has_gates=False),
    "imagenet_densenet": Family(densenet.imagenet, dense_title, dense_fields, has_gates=False),
    "inception": Family(inception.small_inception, small_inception_title, inception_fields),
    **dict.fromkeys(
        inception.IMAGENET_NETS,
        Family(inception.imagenet_inception, imagenet_inception_title, imagenet_inception_fields),
    ),
}


def complete(model: Fields) -> ConfigDict:
    """Return ``model`` with the defaults of the fields that it lacks, as records of older versions do."""
    whole = default().model
    whole.update(dict(model))
    return whole


def build(
    model: Fields,
    num_classes: int,
    dtype: str = "float32",
    axis_name: str | None = None,
    sync_batch_norm: bool = False,
    unroll: bool = False,
    remat: bool = False,
) -> nn.Module:
    """Return the net that ``model``, the part of a run's config, describes.

    Args:
      model: fields of the net; its family reads only ``fields_read``.
      num_classes: width of the head.
      dtype: type of the computation, "float32" or "bfloat16".
      axis_name: device axis over which a batch is divided in training; None for the whole batch on one device.
      sync_batch_norm: whether batch norm takes its statistics over all devices.
      unroll: whether the loops over blocks are unrolled.
      remat: whether blocks are rematerialised in the backward pass to save memory.

    Raises:
      UserError: the family has no such net.
    """
    whole = complete(model)
    return FAMILIES[whole.family].make(
        whole,
        num_classes=num_classes,
        dtype=DTYPES[dtype],
        axis_name=axis_name,
        sync_batch_norm=sync_batch_norm,
        unroll=unroll,
        remat=remat,
    )


def title(model: Fields) -> str:
    """Return the name of the net, as "plain-56"."""
    whole = complete(model)
    return FAMILIES[whole.family].title(whole).format(depth=whole.depth)


def series_title(model: Fields) -> str:
    """Return the common name of nets that differ from ``model`` only in depth, as "plain" or "WRN-n-4"."""
    whole = complete(model)
    return FAMILIES[whole.family].title(whole).removesuffix("-{depth}").format(depth="n")


def fields_read(model: Fields) -> tuple[str, ...]:
    """Return the names of the fields of ``config.model`` that the net depends on."""
    whole = complete(model)
    return ("family", *FAMILIES[whole.family].fields(whole))
