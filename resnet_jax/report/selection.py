"""Which nets are drawn where there are more than anyone can look at; the tables have all of them."""

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from resnet_jax.analysis.runs import Replicates, group_depths

# Panels of curves, four rows of four; depths in one panel; rows of the figure of nets; lines of measured nets.
MOST_SERIES, MOST_DEPTHS, MOST_NETS, MOST_MEASURED = 16, 10, 50, 16

Item = TypeVar("Item")
Name = TypeVar("Name", bound=Hashable)


class Selection(NamedTuple):
    """What is drawn of a comparison.

    Attributes:
      nets: of the curves and of the errors over depth.
      rows: the nets of the figure of final errors.
      left_out: sentences on what is only in the tables.
    """

    nets: list[Replicates]
    rows: list[Replicates]
    left_out: list[str]


def select(nets: Sequence[Replicates], reference: str | None = None) -> Selection:
    """Return the ``nets`` to draw: all if they are few, else the series ``reference`` and the extremes.

    In extreme series, training error rises most or least with depth; series of one depth are ranked by their error.
    Extreme nets have the highest or lowest error; diverged nets, without a finished run, count as highest.
    """
    by_series = group_depths(nets)
    series = chosen_series(by_series, reference)
    drawn = [net for name in by_series if name in series for net in spread(by_series[name], MOST_DEPTHS)]
    errors = {index: error for index, net in enumerate(nets) if (error := error_or_divergence(net)) is not None}
    first = [index for index in errors if nets[index].series == reference]
    indices = set(with_extremes(first, errors, MOST_NETS))
    rows = [nets[index] for index in errors if index in indices]
    left_out = []
    if len(series) < len(by_series):
        left_out.append(
            f"Curves are drawn of {len(series)} of {len(by_series)} series"
            f"{', the reference and' if reference in series else ':'} those whose training error rises most and least "
            f"with depth, or is highest and lowest; {len(by_series) - len(series)} more series are in the tables."
        )
    thinned = sum(len(by_series[name]) > MOST_DEPTHS for name in series)
    if thinned:
        left_out.append(f"Of {thinned} series with more than {MOST_DEPTHS} depths, {MOST_DEPTHS} depths are drawn.")
    if len(rows) < len(errors):
        left_out.append(
            f"Net by net, the {len(rows)} nets of the highest and lowest training error are drawn; "
            f"{len(errors) - len(rows)} more nets are in the tables."
        )
    return Selection(drawn, rows, left_out)


def chosen_series(by_series: Mapping[str, Sequence[Replicates]], reference: str | None) -> set[str]:
    """Return the names of the series to draw, at most ``MOST_SERIES``."""
    rises, errors = {}, {}
    for name, nets in by_series.items():
        finished = [error for net in nets if (error := training_error(net)) is not None]
        if len(finished) > 1:
            rises[name] = finished[-1] - finished[0]
        elif finished:
            errors[name] = finished[0]
    first = [name for name in by_series if name == reference]
    ranked = [*with_extremes(first, rises, MOST_SERIES), *with_extremes(first, errors, MOST_SERIES), *by_series]
    return set(list(dict.fromkeys(ranked))[:MOST_SERIES])


def with_extremes(first: Sequence[Name], values: Mapping[Name, float], count: int) -> list[Name]:
    """Return at most ``count`` names: ``first``, then the highest, the lowest, the second highest and so on."""
    rising = sorted(values, key=lambda name: values[name])
    alternating = itertools.chain.from_iterable(zip(reversed(rising), rising, strict=True))
    return list(dict.fromkeys([*first, *alternating]))[:count]


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most ``most`` of ``items``: the first, the last and some evenly spaced between."""
    places = np.linspace(0, len(items) - 1, min(len(items), most)).round().astype(int)
    return [items[place] for place in places]


def training_error(net: Replicates) -> float | None:
    """Return the mean final training error of ``net`` over its seeds, None if none has finished."""
    errors = [run.final("train_clean") for run in net.finished]
    return float(np.mean(errors)) if errors else None


def error_or_divergence(net: Replicates) -> float | None:
    """Return the mean final training error of ``net``; without a finished run infinite if one diverged, else None."""
    return training_error(net) if net.finished or not any(run.diverged for run in net.runs) else math.inf
