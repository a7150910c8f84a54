"""Networks: from ``config.model`` to a Flax module. Another kind of net is another row of ``FAMILIES``."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from resnet_jax import registry
from resnet_jax.config import default, unknown_field
from resnet_jax.errors import UserError
from resnet_jax.fields import FIELDS, TITLE_FIELDS
from resnet_jax.models import densenet, inception, resnet
from resnet_jax.models.blocks import BottleneckBlock
from resnet_jax.models.describe import Part as Part
from resnet_jax.models.describe import architecture_table as architecture_table
from resnet_jax.models.describe import describe as describe
from resnet_jax.models.describe import totals as totals
from resnet_jax.models.gates import Gate as Gate
from resnet_jax.models.gates import gate_blocks as gate_blocks
from resnet_jax.models.remedies import BRANCH_SCALINGS
from resnet_jax.models.shortcuts import GATINGS
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
        ``sync_batch_norm``, ``unroll`` and ``remat``; raises a UserError for a net that does not exist.
      title: what a net is called, with the placeholder ``{depth}``, as "plain-{depth}".
      fields: which fields of ``config.model`` a net depends on; comparisons ignore the others.
      has_gates: whether its blocks read the collection "gates".
    """

    make: Callable[..., nn.Module]
    title: Callable[[Fields], str]
    fields: Callable[[Fields], tuple[str, ...]]
    has_gates: bool = True


ORDER_TITLES = {
    "original": "",
    "norm_after_addition": "norm-after-addition ",
    "relu_before_addition": "relu-before-addition ",
    "relu_preactivation": "relu-preact ",
    "preactivation": "preact ",
}
# Of the remedies, what the title says where it is not their name.
REMEDY_TITLES = {
    "normalizer_free": "normalizer-free",
    "delta_orthogonal": "delta-orthogonal",
    "looks_linear": "looks-linear",
    "lsuv": "LSUV",
    "crelu": "CReLU",
}
REMEDY_FIELDS = ("branch_scaling", "parametrization", "init", "activation")


def remedies_title(model: Fields) -> str:
    """Return the remedies of ``model``, as in "fixup " and "delta-orthogonal tanh "; empty without any."""
    usual = default().model
    named = [model[name] for name in REMEDY_FIELDS if model[name] != usual[name]]
    return "".join(f"{REMEDY_TITLES.get(name, name)} " for name in named)


def resnet_title(model: Fields) -> str:
    """Return which of the twins ``model`` is, and of which order, block and width."""
    block = f"{model['block']} " if model["family"] == "cifar" and model["block"] != "basic" else ""
    twin = "residual" if model["residual"] else "plain"
    width = "" if model["widening"] == 1 else f"-{model['widening']:g}"
    order = ORDER_TITLES[model["order"]] if "order" in resnet_fields(model) else ""
    return f"{remedies_title(model)}{order}{block}{twin}-{{depth}}{width}"


def wide_title(model: Fields) -> str:
    """Return the name of a wide net in its paper, such as "WRN-28-10"."""
    return f"{remedies_title(model)}{'' if model['residual'] else 'plain '}WRN-{{depth}}-{model['widening']:g}"


def wide_fields(model: Fields) -> tuple[str, ...]:
    """Return the fields of a wide net."""
    norm = () if BRANCH_SCALINGS[model["branch_scaling"]].norm else ("norm",)
    return (*inner_fields(model), *norm, *REMEDY_FIELDS)


def inner_fields(model: Fields) -> tuple[str, ...]:
    """Return the fields that wide and residual Inception nets share."""
    survival = ("survival", "survival_rule") if model["survival"] < 1 else ("survival",)
    return ("depth", "residual", "widening", "dropout", *survival)


def resnet_fields(model: Fields) -> tuple[str, ...]:
    """Return the fields of a cifar net; a plain one has no shortcut, and a scaled branch brings its own order."""
    gating = ("gating_bias",) if model["shortcut"] in GATINGS else ()
    shortcut = ("shortcut", *gating) if model["residual"] and model["block"] != "repvgg" else ()
    stem = ("stem_activation",) if model["order"] == "preactivation" else ()
    order = () if BRANCH_SCALINGS[model["branch_scaling"]].order else ("order", *stem)
    stride = ("bottleneck_stride",) if model["block"] == "bottleneck" else ()
    reserve = ("reserve",) if model["block"] == "basic" else ()
    return (*wide_fields(model), *shortcut, "block", *order, *stride, *reserve)


def imagenet_fields(model: Fields) -> tuple[str, ...]:
    """Return the fields of an ImageNet net, whose block follows from its depth."""
    block, _ = resnet.IMAGENET_STAGES.get(model["depth"], (None, ()))
    fields = resnet_fields({**model, "block": "bottleneck" if block is BottleneckBlock else "basic"})
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
    """Return which of the twins ``model`` is, and of which width."""
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


def register_family(
    name: str,
    make: Callable[..., nn.Module],
    fields: tuple[str, ...] = ("depth", "residual"),
    title: Callable[[Fields], str] | None = None,
    has_gates: bool = False,
) -> None:
    """Add a net of the user's own to ``FAMILIES``, for ``config.model.family=name``.

    ``make(model, *, num_classes, dtype, axis_name, sync_batch_norm, unroll, remat)`` returns the net, given a config of
    the declared fields; ``build`` explains the keywords. The net is called as ``net(images, train)``, with images
    ``[batch, height, width, channels]``, and returns logits ``[batch, num_classes]``. Its variables are in collections
    "params" and "batch_stats". Modules named block0, block1, ... are its blocks, which instruments measure; several
    stages are modules around them.

    Args:
      name: of the family.
      make: a function or a class, defined in the user's own file.
      fields: names of the fields of ``config.model`` that ``make`` may read. Comparisons ignore all others, so runs
        that differ only in others count as replicates.
      title: makes the title of a net, with the placeholder ``{depth}``; by default
        ``usual_title``. It must show each of ``fields`` that ``fields.TITLE_FIELDS`` has.
      has_gates: whether its blocks read the collection "gates".

    Raises:
      UserError: the name is taken or not valid, or there is no such field.
    """
    for field in fields:
        if f"model.{field}" not in FIELDS:
            raise UserError(f"config.model.family={name!r} declares an {unknown_field(f'model.{field}')}")
    registry.register("model.family", name, make)

    def make_declared(model: Fields, **settings: Any) -> nn.Module:
        return make(DeclaredFields({field: model[field] for field in ("family", *fields)}), **settings)

    FAMILIES[name] = Family(make_declared, title or functools.partial(usual_title, fields), lambda _: fields, has_gates)


class DeclaredFields(Mapping[str, Any]):
    """The fields of ``config.model`` that a family of the user's own declares, also as attributes."""

    def __init__(self, values: Fields) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            raise UserError(
                f"config.model.family={self._values['family']!r} reads config.model.{name} without declaring it; add "
                "it to fields in models.register_family, so that comparisons distinguish nets by it."
            )
        return self._values[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Python and libraries ask for these.
            raise AttributeError(name)
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def usual_title(fields: tuple[str, ...], model: Fields) -> str:
    """Return the name of the family with those ``fields`` of titles that differ from the defaults.

    For example "plain mine-{depth} widening 2.0".
    """
    usual = default().model
    twin = "" if model["residual"] or "residual" not in fields else "plain "
    shown = [name for name in fields if f"model.{name}" in TITLE_FIELDS and name not in ("depth", "residual")]
    others = "".join(f" {name} {model[name]}" for name in shown if model[name] != usual[name])
    return f"{twin}{model['family']}-{{depth}}{others}"


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
      model: its fields, of which the family reads ``fields_read``.
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
    """Return what the net is called, as "plain-56"."""
    whole = complete(model)
    return FAMILIES[whole.family].title(whole).format(depth=whole.depth)


def series_title(model: Fields) -> str:
    """Return what nets that differ from ``model`` in depth alone are called, as "plain" or "WRN-n-4"."""
    whole = complete(model)
    return FAMILIES[whole.family].title(whole).removesuffix("-{depth}").format(depth="n")


def fields_read(model: Fields) -> tuple[str, ...]:
    """Return the names of the fields of ``config.model`` that the net depends on."""
    whole = complete(model)
    return ("family", *FAMILIES[whole.family].fields(whole))
