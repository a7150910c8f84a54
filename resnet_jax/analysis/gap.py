"""The gap between two nets' errors: its interval, its p-value, and the words for it.

The interval is Welch's, for two means whose nets scatter differently. ``docs/coverage.md`` shows
how often it contains the true gap; with errors that are skewed, or runs that fail, it does so less often than it says,
as every interval of three to five seeds, so that each seed's error stands next to it.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from resnet_jax.sweeps.claims import DEGRADES, DOES_NOT_DEGRADE

CONFIDENCE = 0.95
# Two one-sided tests at 5 % of a gap of the margin: the interval that Schuirmann 1987 uses for equivalence.
EQUIVALENCE_CONFIDENCE = 0.90
# As a fraction; a gap that is surely smaller counts as none.
MARGIN = 0.01
LEAST_SEEDS = 3
# Of more seeds a cell of a table has the range of their errors.
MOST_SEEDS = 5
NOT_JUDGED, EQUAL, INCONCLUSIVE = "not judged", "both at", "inconclusive"
HIGHER, LOWER, ALIKE = "higher", "lower", "alike"


class Gap(NamedTuple):
    """How much higher the errors of one net are than another's: a deeper net's than a shallower one's, for example.

    Attributes:
      errors: of the net, a fraction for each seed.
      others: of the other.
      interval: 95 % confidence interval of the difference of the means, within -1 and 1; None if there are too few
        seeds, or none of the nets scatters.
      narrow: its 90 % interval, or None.
      p_value: of Welch's t-test for equal means, below 0.05 where ``interval`` excludes 0; or None.
    """

    errors: tuple[float, ...]
    others: tuple[float, ...]
    interval: tuple[float, float] | None
    narrow: tuple[float, float] | None
    p_value: float | None

    @property
    def difference(self) -> float:
        """Difference of the means over seeds, as a fraction."""
        return float(np.mean(self.errors) - np.mean(self.others))

    @property
    def seeds(self) -> int:
        """The smaller number of seeds."""
        return min(len(self.errors), len(self.others))

    @property
    def is_equal(self) -> bool:
        """Whether all runs of both nets have the same error."""
        return len({*self.errors, *self.others}) == 1

    @property
    def is_above(self) -> bool:
        """Whether the gap is above 0 beyond what seeds make of it."""
        return self.interval is not None and self.interval[0] > 0

    @property
    def is_below(self) -> bool:
        """Whether the gap is below 0 beyond what seeds make of it."""
        return self.interval is not None and self.interval[1] < 0

    @property
    def word(self) -> str:
        """The verdict on a deeper net compared with a shallower one."""
        if self.seeds < LEAST_SEEDS:
            return NOT_JUDGED
        if self.is_equal:
            return EQUAL
        if self.narrow is None:
            return NOT_JUDGED
        if self.is_above:
            return DEGRADES
        return DOES_NOT_DEGRADE if self.narrow[1] < MARGIN else INCONCLUSIVE

    @property
    def against_reference(self) -> str:
        """The verdict on a net compared with a reference of the same depth."""
        if self.word in (NOT_JUDGED, EQUAL):
            return self.word
        if self.is_above or self.is_below:
            return HIGHER if self.is_above else LOWER
        assert self.narrow is not None
        return ALIKE if self.narrow[0] > -MARGIN and self.narrow[1] < MARGIN else INCONCLUSIVE


def gap(errors: Sequence[float] | np.ndarray, others: Sequence[float] | np.ndarray) -> Gap:
    """Return the gap between the final errors of two nets, fractions ``[seeds]``, the second being the reference."""
    one, other = (tuple(float(error) for error in each) for each in (errors, others))
    if min(len(one), len(other)) < LEAST_SEEDS or np.ptp(one) == np.ptp(other) == 0:
        return Gap(one, other, None, None, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Warns if all seeds of a net have equal errors.
        welch = stats.ttest_ind(one, other, equal_var=False)
        bounds = [welch.confidence_interval(confidence) for confidence in (CONFIDENCE, EQUIVALENCE_CONFIDENCE)]
    interval, narrow = ((max(float(low), -1.0), min(float(high), 1.0)) for low, high in bounds)
    return Gap(one, other, interval, narrow, float(welch.pvalue))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return ``p_values`` adjusted for their number (Holm 1979, "A simple sequentially rejective procedure")."""
    order = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (value, place) in enumerate(order):
        highest = max(highest, min(1.0, value * (len(order) - rank)))
        adjusted[place] = highest
    return adjusted


def finding(gap: Gap, word: str, nets: tuple[str, str]) -> str:
    """Return ``word`` on ``gap`` in training error with all that carries it: interval, p-value and each seed's error.

    Args:
      gap: in training error.
      word: the verdict on it.
      nets: what the net and the other one are called.
    """
    seeds = f"{nets[1]}: {each_error(gap.others)} %; {nets[0]}: {each_error(gap.errors)} %"
    if word == EQUAL:
        return f"{claim(gap, word)}, {gap.seeds} seeds: nothing to compare"
    if gap.interval is None:
        return f"{claim(gap, word)}; {seeds}"
    return f"{claim(gap, word)}, {points_of(gap)} of training error ({certainty(gap)}; {seeds})"


def claim(gap: Gap, word: str) -> str:
    """Return ``word`` on ``gap`` with the margin or the error that it claims, or the reason why it claims nothing."""
    within = f"{100 * MARGIN:g} point"
    if word == EQUAL:
        return f"{word} {percent(gap.errors[0])} %"
    if word == NOT_JUDGED:
        return f"{word} ({points_of(gap)}, {certainty(gap)})"
    if word == ALIKE:
        return f"{word} within {within}"
    is_small = gap.narrow is not None and max(map(abs, gap.narrow)) < MARGIN
    return f"{word} by less than {within}" if is_small and word in (DEGRADES, HIGHER, LOWER) else word


def signed(gap: Gap) -> str:
    """Return the difference in percentage points, as "+28.34"."""
    return f"{round(100 * gap.difference, 2) + 0.0:+.2f}"  # Adding 0 turns -0.0 into +0.0.


def points_of(gap: Gap) -> str:
    """Return the difference in percentage points with the unit."""
    return f"{signed(gap)} points"


def certainty(gap: Gap) -> str:
    """Return interval and p-value in words, or why there are none."""
    seeds = f"{gap.seeds} seed{'s' if gap.seeds > 1 else ''}"
    if gap.interval is None:
        return seeds if gap.seeds < LEAST_SEEDS else f"{seeds} without scatter"
    return f"95 % interval {bounds(gap)}, {seeds}, p = {gap.p_value:.2g}"


def bounds(gap: Gap) -> str:
    """Return the ends of the 95 % interval in percentage points."""
    assert gap.interval is not None
    return " to ".join(f"{100 * bound:.2f}" for bound in gap.interval)


def each_error(errors: Sequence[float]) -> str:
    """Return the errors of all seeds in per cent."""
    return ", ".join(map(percent, errors))


def mean_and_seeds(errors: Sequence[float]) -> str:
    """Return the mean of ``errors``, fractions, in per cent, and in brackets each; of many, their range and number."""
    mean = percent(float(np.mean(errors)))
    if len(errors) == 1:
        return mean
    if len(errors) <= MOST_SEEDS:
        return f"{mean} ({each_error(errors)})"
    return f"{mean} ({percent(min(errors))} to {percent(max(errors))}, {len(errors)} seeds)"


def percent(error: float) -> str:
    """Return ``error``, a fraction, in per cent: to a tenth, below 10 to a hundredth."""
    return "0" if error == 0 else f"{100 * error:.{1 if error > 0.09995 else 2}f}"
