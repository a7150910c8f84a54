"""Whether two nets differ beyond what seeds make them differ: the rule by which a sentence is printed.

Two nets differ if the ranges of their values, one for each seed, do not touch; with three or four seeds they must be
apart by at least the wider of the two. Where there is no difference, that happens in fewer than 1 of 100 cases with any
number of seeds from three on (``tests/analysis/test_contrast.py`` simulates it, with normal, Cauchy and log-normal
values). It says nothing of how large a difference is.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from resnet_jax.analysis.diagnosed import Diagnosed

LEAST_SEEDS = 3
# From which on ranges that do not touch are rare enough by themselves: 2 of the 252 orders of five and five values.
ENOUGH_SEEDS = 5
RULE = (
    "A sentence is printed where the values of two nets, one for each seed, lie in ranges that do not touch, with "
    "three or four seeds apart by at least the wider one; without a difference that happens in less than 1 case of 100."
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


def contrast(
    nets: tuple[Sequence[Diagnosed], Sequence[Diagnosed]], of: Callable[[Diagnosed], float | None]
) -> Contrast:
    """Return number ``of`` the seeds of two nets, without those of which it was not measured or is non-finite."""
    one, other = ([of(each) for each in seeds] for seeds in nets)
    values = tuple([value for value in each if value is not None and math.isfinite(value)] for each in (one, other))
    return Contrast((nets[0][0].label, nets[1][0].label), (values[0], values[1]))


def sentence(found: Contrast, says: str, number: Callable[[float], str]) -> str:
    """Return what ``found`` says: ``says`` with the placeholders {0} and {1} for its medians, if the nets differ.

    Args:
      found: of two nets.
      says: the sentence, without a final full stop.
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
