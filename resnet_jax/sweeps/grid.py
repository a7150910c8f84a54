"""Build the list of overrides that ``get_sweep`` of a sweep file returns.

An override is a dictionary from dotted fields to values, such as ``{"model.depth": 56, "seed": 0}``::

    def get_sweep():
        return product(axis("model.residual", [False, True]), axis("model.depth", [20, 56]), axis("seed", range(5)))

``tuned("optimizer.learning_rate", [0.01, 0.03, 0.1])`` is an axis too, along which each net is judged at its own best.
"""

import itertools
from collections.abc import Iterable
from typing import Any

Overrides = dict[str, Any]


def axis(field: str, values: Iterable[Any]) -> list[Overrides]:
    """Return one override of ``field`` per value."""
    return [{field: value} for value in values]


class TunedField(str):
    """The name of a field that is tuned, each net to its own best value; in all else the name itself."""


def tuned(field: str, values: Iterable[Any]) -> list[Overrides]:
    """Return the axis of ``field``, marked as one along which each net is judged at its own best value."""
    return axis(TunedField(field), values)


def tuned_fields(sweep: list[Overrides]) -> list[str]:
    """Return the fields that ``sweep`` tunes."""
    return list(dict.fromkeys(str(field) for each in sweep for field in each if isinstance(field, TunedField)))


def product(*sweeps: list[Overrides]) -> list[Overrides]:
    """Return every combination of one override from each of ``sweeps``."""
    return [merge(*parts) for parts in itertools.product(*sweeps)]


def together(*sweeps: list[Overrides]) -> list[Overrides]:
    """Return the overrides of ``sweeps`` merged pairwise, like ``zip``; all must have the same length."""
    return [merge(*parts) for parts in zip(*sweeps, strict=True)]


def chain(*sweeps: list[Overrides]) -> list[Overrides]:
    """Return the overrides of all ``sweeps``, concatenated."""
    return list(itertools.chain(*sweeps))


def merge(*overrides: Overrides) -> Overrides:
    """Return ``overrides`` merged into one; raise a ValueError if two set the same field."""
    merged: Overrides = {}
    for part in overrides:
        for field, value in part.items():
            if field in merged:
                raise ValueError(f"{field} is set by two axes")
            merged[field] = value
    return merged
