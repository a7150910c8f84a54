"""Blocks and nets that a user defines in a file of their own, as further choices of ``config.model``."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn

from resnet_jax import registry
from resnet_jax.config import default, unknown_field
from resnet_jax.errors import UserError
from resnet_jax.fields import FIELDS, TITLE_FIELDS, ShortcutName, names
from resnet_jax.models.block import Conv, ConvBlock, basic
from resnet_jax.models.families import FAMILIES, Family, Fields
from resnet_jax.models.variants import VARIANTS, Variant, constant_options


def register_block(
    name: str, block: type[ConvBlock], convolutions: Callable[[int, int], tuple[Conv, ...]] = basic
) -> None:
    """Add a block of the user's own to the variants, for ``config.model.block=name`` in family "cifar".

    Args:
      name: name of the block.
      block: a subclass of ``ConvBlock`` or of another order in ``variants/orders.py``, defined in the user's own file.
      convolutions: returns the convolutions of its branch, given width and stride; two 3x3 by default.

    Raises:
      UserError: the name is taken or not valid, or ``block`` is not such a class or has too many convolutions.
    """
    if not (inspect.isclass(block) and issubclass(block, ConvBlock)):
        raise UserError(f"config.model.block={name!r}: {block!r} is not a subclass of models.ConvBlock; give one.")
    if len(convolutions(1, 1)) > 3:
        raise UserError(f"config.model.block={name!r} has more than three convolutions, for which no depth is defined.")
    registry.register("model.block", name, block)
    orders = VARIANTS["order"].items()
    # The order of the nearest ancestor decides stem and final norm.
    order = next(order for each in block.__mro__ for order, row in orders if row.block is each)
    shortcuts = tuple(option for option in names(ShortcutName) if VARIANTS["shortcut"][option].block is None)
    VARIANTS["block"][name] = Variant(
        block,
        constant_options(convolutions=convolutions),
        needs={"order": (order,), "branch_scaling": ("none",), "shortcut": shortcuts, "init": ("he",)},
    )


def register_family(
    name: str,
    make: Callable[..., nn.Module],
    fields: tuple[str, ...] = ("depth", "residual"),
    title: Callable[[Fields], str] | None = None,
) -> None:
    """Add a net of the user's own to ``FAMILIES``, for ``config.model.family=name``.

    ``make(model, *, num_classes, dtype, axis_name, sync_batch_norm, unroll, remat)`` returns the net, given a config of
    the declared fields; ``build`` explains the keywords. The net is called as ``net(images, train)``, with images
    ``[batch, height, width, channels]``, and returns logits ``[batch, num_classes]``. Its variables are in collections
    "params" and "batch_stats". Modules named "block" and a number are its blocks, which instruments measure;
    several stages are modules around them.

    Args:
      name: name of the family.
      make: a function or a class, defined in the user's own file.
      fields: names of the fields of ``config.model`` that ``make`` may read. Comparisons ignore all others, so runs
        that differ only in others count as replicates.
      title: makes the title of a net, with the placeholder ``{depth}``; by default
        ``usual_title``. It must show each of ``fields`` that ``fields.TITLE_FIELDS`` has.

    Raises:
      UserError: the name is taken or not valid, or there is no such field.
    """
    for field in fields:
        if f"model.{field}" not in FIELDS:
            raise UserError(f"config.model.family={name!r} declares an {unknown_field(f'model.{field}')}")
    registry.register("model.family", name, make)

    def make_declared(model: Fields, **settings: Any) -> nn.Module:
        return make(DeclaredFields({field: model[field] for field in ("family", *fields)}), **settings)

    title = title or functools.partial(usual_title, fields)
    FAMILIES[name] = Family(make_declared, title, lambda _: fields, has_gates=False)


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
        if name.startswith("_"):  # Python and libraries look these up.
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
