"""What records must be like to be used: a small check of JSON that may be damaged or made up.

A shape is a type (``str``, ``bool``, ``dict``), a list of one shape for all elements, a tuple of one shape for each
element, a dictionary of shapes by key, or an object of a class below. Other keys may be there.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from resnet_jax.config import shown
from resnet_jax.fields import LARGEST_INT


class Number(NamedTuple):
    """A finite number.

    Attributes:
      at_least: smallest value.
      at_most: largest value.
      whole: whether it is an integer.
    """

    at_least: float = -math.inf
    at_most: float = math.inf
    whole: bool = False


class Maybe(NamedTuple):
    """``shape``, or null, or missing in its dictionary."""

    shape: Any


class Each(NamedTuple):
    """A dictionary with values of ``shape`` by any key."""

    shape: Any


class Array(NamedTuple):
    """Finite numbers in ``dimensions`` nested lists; lists of one dimension have one length."""

    dimensions: int


class OneOf(NamedTuple):
    """One of ``choices``, which are text."""

    choices: tuple[str, ...]


COUNT = Number(0, LARGEST_INT, whole=True)
# Of multiply-adds, and of parameters.
LARGE_COUNT = Number(0, 2**63, whole=True)
FRACTION = Number(0, 1 + 1e-6)  # A mean may be rounded.
SECONDS = Number(0, 1e12)


def check(value: Any, shape: Any, where: str = "") -> None:
    """Raise a ValueError that names the part of ``value`` that does not have its shape, within ``where``."""
    if isinstance(shape, Maybe):
        if value is not None:
            check(value, shape.shape, where)
    elif isinstance(shape, Number):
        _check_number(value, shape, where)
    elif isinstance(shape, Array):
        _check_array(value, shape.dimensions, where)
    elif isinstance(shape, OneOf):
        if value not in shape.choices:
            raise ValueError(f"{_named(where)} is {shown(value)}, which is none of {', '.join(shape.choices)}")
    elif isinstance(shape, Each | dict):
        _check_type(value, dict, where)
        shapes = dict.fromkeys(value, shape.shape) if isinstance(shape, Each) else shape
        for key, part in shapes.items():
            if key not in value and not isinstance(part, Maybe):
                raise ValueError(f"{_named(where)} has no {key}")
            check(value.get(key), part, f"{where}.{shown(key)[1:-1]}".removeprefix("."))
    elif isinstance(shape, list | tuple):
        _check_type(value, list, where)
        if isinstance(shape, tuple) and len(value) != len(shape):
            raise ValueError(f"{_named(where)} has {len(value)} elements instead of {len(shape)}")
        for index, part in enumerate(value):
            check(part, shape[index] if isinstance(shape, tuple) else shape[0], f"{where}[{index}]")
    else:
        _check_type(value, shape, where)


def _named(where: str) -> str:
    return where or "its content"


def _check_type(value: Any, wanted: type, where: str) -> None:
    if type(value) is not wanted:
        names = {dict: "a dictionary", list: "a list", str: "text", bool: "true or false"}
        raise ValueError(f"{_named(where)} is {shown(value)} instead of {names[wanted]}")


def _check_array(value: Any, dimensions: int, where: str) -> None:
    array = np.array(value, object)
    is_numeric = array.ndim == dimensions and array.size and all(type(each) in (int, float) for each in array.flat)
    if not is_numeric or not np.isfinite(array.astype(float)).all():
        raise ValueError(f"{_named(where)} is not an array of {dimensions} dimensions of finite numbers")


def _check_number(value: Any, shape: Number, where: str) -> None:
    is_number = type(value) is int or (type(value) is float and not shape.whole and math.isfinite(value))
    if not is_number or not shape.at_least <= value <= shape.at_most:
        kind = "whole number" if shape.whole else "number"
        limits = [f"at least {shape.at_least:g}"] * math.isfinite(shape.at_least)
        limits += [f"at most {shape.at_most:g}"] * math.isfinite(shape.at_most)
        wanted = " ".join(filter(None, [kind, " and ".join(limits)]))
        raise ValueError(f"{_named(where)} is {shown(value)} instead of a {wanted}")
