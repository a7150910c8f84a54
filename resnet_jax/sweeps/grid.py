"""Lists of overrides: what the ``get_sweep`` of a sweep file returns.

An override is a dictionary from dotted fields to values, as ``{"model.depth": 56, "seed": 0}``::

    def get_sweep():
        return product(axis("model.residual", [False, True]), axis("model.depth", [20, 56]), axis("seed", range(5)))
"""

import itertools
from collections.abc import Iterable
from typing import Any

Overrides = dict[str, Any]


def axis(field: str, values: Iterable[Any]) -> list[Overrides]:
    """Return an override of ``field`` for each of ``values``."""
    return [{field: value} for value in values]


def product(*sweeps: list[Overrides]) -> list[Overrides]:
    """Return every combination of one override from each of ``sweeps``."""
    return [merge(*parts) for parts in itertools.product(*sweeps)]


def together(*sweeps: list[Overrides]) -> list[Overrides]:
    """Return the first overrides of all ``sweeps`` as one, the second as one, and so on; they are equally long."""
    return [merge(*parts) for parts in zip(*sweeps, strict=True)]


def chain(*sweeps: list[Overrides]) -> list[Overrides]:
    """Return the overrides of all ``sweeps``, one after the other."""
    return list(itertools.chain(*sweeps))


def merge(*overrides: Overrides) -> Overrides:
    """Return ``overrides`` in one; a field in two of them is a mistake and raises a ValueError."""
    merged: Overrides = {}
    for part in overrides:
        for field, value in part.items():
            if field in merged:
                raise ValueError(f"{field} is on two axes")
            merged[field] = value
    return merged
