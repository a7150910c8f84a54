"""Whether two nets differ beyond what seeds make them differ: the rule by which a sentence is printed.

Two nets differ if the ranges of their values, one for each seed, do not touch; with three or four seeds they must be
apart by at least the wider of the two. Where the values of both nets come from one distribution, that happens in fewer
than 1 of 100 cases with any number of seeds from three on (``tests/analysis/test_contrast.py`` simulates it, with
normal, Cauchy and log-normal values); where only their means are equal and one net scatters ten times as much as the
other (normal values), in up to 5. It says nothing of how large a difference is.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from resnet_jax.analysis.diagnosed import Diagnosed, Groups

Seeds = Sequence[Diagnosed]
# A plain net and its residual twin, each with its seeds.
Twins = tuple[Seeds, Seeds]
LEAST_SEEDS = 3
# From which on ranges that do not touch are rare enough by themselves: 2 of the 252 orders of five and five values.
ENOUGH_SEEDS = 5
RULE = (
    "A sentence is printed where the values of two nets, one for each seed, lie in ranges that do not touch, with "
    "three or four seeds apart by at least the wider one. That happens in less than 1 case of 100 if the values of "
    "both nets have one distribution, and in up to 5 if only their means are equal and one net scatters ten times as "
    "much."
)


class Contrast(NamedTuple):
    """A number of two nets, one for each seed.

    Attributes:
      nets: what they are called.
      values: of each net.
    """

    nets: tuple[str, str]
    values: tuple[list[float], list[float]]

    @property
    def medians(self) -> tuple[float, float]:
        """The median of each net."""
        one, other = self.values
        return statistics.median(one), statistics.median(other)

    @property
    def differs(self) -> bool:
        """Whether the nets differ by the rule of this module."""
        one, other = self.values
        seeds = min(len(one), len(other))
        if seeds < LEAST_SEEDS:
            return False
        apart = max(min(one) - max(other), min(other) - max(one))
        wider = max(max(one) - min(one), max(other) - min(other))
        return apart > 0 and (seeds >= ENOUGH_SEEDS or apart >= wider)


def contrast(nets: Twins, of: Callable[[Diagnosed], float | None]) -> Contrast:
    """Return number ``of`` the seeds of two nets, without seeds where it was not measured or is non-finite."""
    one, other = ([of(each) for each in seeds] for seeds in nets)
    values = tuple([value for value in each if value is not None and math.isfinite(value)] for each in (one, other))
    return Contrast((nets[0][0].label, nets[1][0].label), (values[0], values[1]))


def sentence(found: Contrast, says: str, number: Callable[[float], str]) -> str:
    """Return the statement on ``found``: ``says``, with the medians for {0} and {1}, if the nets differ.

    Args:
      found: of two nets.
      says: the statement if they differ, without a final full stop.
      number: writes one number.
    """
    seeds = tuple(map(len, found.values))
    if not all(seeds):
        return (
            f"Not measured of {' and '.join(net for net, count in zip(found.nets, seeds, strict=True) if not count)}."
        )
    medians = [number(value) for value in found.medians]
    ranges = [
        f"{net} {text}" + (f" ({number(min(values))} to {number(max(values))})" if len(values) > 1 else "")
        for net, text, values in zip(found.nets, medians, found.values, strict=True)
    ]
    if found.differs:
        return f"{says.format(*medians)}. Median and range over seeds: {', '.join(ranges)}."
    if min(seeds) < LEAST_SEEDS:
        few = min(seeds)
        return f"{few} seed{'s' * (few > 1)}, three are needed to tell a difference from chance: {', '.join(ranges)}."
    return f"No difference beyond seeds: {', '.join(ranges)}."


def deepest_twins(groups: Groups, works: Callable[[Seeds], bool] = lambda seeds: True) -> Twins | None:
    """Return the deepest plain net that ``works`` and the residual net of that depth, None if there are no twins."""
    plain = {seeds[0].depth: seeds for seeds in groups.values() if not seeds[0].residual and works(seeds)}
    residual: dict[int, Seeds] = {}
    for seeds in groups.values():
        if seeds[0].residual:
            residual.setdefault(seeds[0].depth, seeds)  # The first is the net without interventions.
    common = plain.keys() & residual.keys()
    return (plain[max(common)], residual[max(common)]) if common else None


class Statistic(NamedTuple):
    """A number by which nets are compared.

    Attributes:
      quantity: what it is, for nets without twins.
      of: the number of one net, None where it was not measured.
      text: the statement on twins, with {plain} and {residual} for their labels, {0} and {1} for their medians.
      number: writes one number.
    """

    quantity: str
    of: Callable[[Diagnosed], float | None]
    text: str
    number: Callable[[float], str]


def says(groups: Groups, twins: Twins | None, statistic: Statistic) -> str:
    """Return the statement on ``twins``; without twins the number of each net of ``groups``."""
    if twins is None:
        of, number = statistic.of, statistic.number
        values = {label: [value for net in seeds if (value := of(net)) is not None] for label, seeds in groups.items()}
        each = ", ".join(f"{label} {number(float(np.median(found)))}" for label, found in values.items() if found)
        return (f"{statistic.quantity}: {each}. " if each else "") + "There are no twins to compare."
    plain, residual = (seeds[0].label for seeds in twins)
    named = statistic.text.replace("{plain}", plain).replace("{residual}", residual)
    return sentence(contrast(twins, statistic.of), named, statistic.number)
