"""Does depth degrade training, by how much, and how certain is that?

The degradation gap is the final training error of the deeper net minus that of the shallower one, on the whole training
set without augmentation, averaged over seeds. Its interval is Welch's: for two means whose nets scatter differently.
``benchmarks/records/coverage-2-cpu-cores.json`` has how often it holds the true gap; with errors that are skewed, or
runs that fail, it does so less often than it says, as every interval of three to five seeds, so that each seed's error
stands beside it.
"""

import collections
import itertools
import json
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from resnet_jax.analysis.rates import warm_up
from resnet_jax.analysis.runs import Replicates, Run, differing_fields, group_depths, group_seeds, recipe
from resnet_jax.sweeps.claims import DEGRADES, DOES_NOT_DEGRADE

CONFIDENCE = 0.95
# Two one-sided tests at 5 % of a gap of the margin: the interval that Schuirmann 1987 uses for equivalence.
EQUIVALENCE_CONFIDENCE = 0.90
# As a fraction; a gap that is surely smaller counts as none.
MARGIN = 0.01
LEAST_SEEDS = 3
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


class SeriesVerdict(NamedTuple):
    """The verdict on one series.

    Attributes:
      series: its name.
      depths: from the shallowest to the deepest.
      steps: gaps in training error between each depth and the next.
      whole: gap in training error between the shallowest and the deepest net.
      test: gap in test error between the same nets.
      warm_up: steps of warm-up of these nets, the shallowest first.
    """

    series: str
    depths: list[int]
    steps: list[Gap]
    whole: Gap
    test: Gap
    warm_up: tuple[int, int] = (0, 0)


class Statement(NamedTuple):
    """A line of the table of verdicts.

    Attributes:
      name: of the nets that are compared, as "plain, 20 / 56 layers".
      gap: in training error.
      word: on it.
    """

    name: str
    gap: Gap
    word: str


class Verdict(NamedTuple):
    """The verdict on all series, and the runs it leaves out, each with the reason."""

    series: list[SeriesVerdict]
    left_out: list[tuple[Run, str]]


def gap(errors: Sequence[float] | np.ndarray, others: Sequence[float] | np.ndarray) -> Gap:
    """Return the gap between the final errors of two nets, fractions ``[seeds]``, the second being the reference."""
    one, other = (tuple(float(error) for error in each) for each in (errors, others))
    if min(len(one), len(other)) < LEAST_SEEDS or np.ptp(one) == np.ptp(other) == 0:
        return Gap(one, other, None, None, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Of one net whose seeds have equal errors.
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


def judge(runs: list[Run]) -> Verdict:
    """Return the verdict on ``runs``.

    Runs without all their steps, and runs whose recipe differs from the most frequent one, are left out; the latter are
    not named where there is no verdict at all, as in sweeps over learning rates.
    """
    unfinished = [(run, unfinished_reason(run)) for run in runs if not run.complete]
    finished = [run for run in runs if run.complete]
    recipes = collections.Counter(json.dumps(recipe(run), sort_keys=True) for run in finished)
    usual = json.loads(recipes.most_common(1)[0][0]) if recipes else {}
    judged, differing = [], []
    for run in finished:
        names = differing_fields([recipe(run), usual])
        if names:
            fields = ", ".join(f"{name} {recipe(run).get(name)} instead of {usual.get(name)}" for name in names)
            differing.append((run, f"its recipe differs from most: {fields}"))
        else:
            judged.append(run)
    series = [judge_series(nets) for nets in group_depths(group_seeds(judged)).values() if len(nets) > 1]
    return Verdict(series, unfinished + (differing if series else []))


def unfinished_reason(run: Run) -> str:
    """Return the reason for which ``run`` does not have all its steps."""
    if run.finished:
        return "ended by config.stop_below_loss before all steps"
    if run.summary is not None and run.summary["status"] == "diverged":
        return f"diverged at step {run.summary['steps']:,}"
    return f"unfinished at step {run.step:,} of {run.config['steps']:,}"


def judge_series(nets: list[Replicates]) -> SeriesVerdict:
    """Return the verdict on ``nets`` of one series, in order of depth."""

    def between(shallow: Replicates, deep: Replicates, split: str) -> Gap:
        return gap(*([run.final(split) for run in net.finished] for net in (deep, shallow)))

    return SeriesVerdict(
        nets[0].series,
        [net.depth for net in nets],
        [between(shallow, deep, "train_clean") for shallow, deep in itertools.pairwise(nets)],
        between(nets[0], nets[-1], "train_clean"),
        between(nets[0], nets[-1], "test"),
        (warm_up(nets[0].runs[0]), warm_up(nets[-1].runs[0])),
    )


def sentences(verdict: Verdict) -> list[str]:
    """Return the verdict in words."""
    if not verdict.series:
        return ["No verdict: it needs finished runs of two depths that do not differ otherwise."]
    found = []
    for series in verdict.series:
        first, last = series.depths[0], series.depths[-1]
        nets = (f"{last} layers", f"{first} layers")
        said = f"{series.series}, {first} to {last} layers: {finding(series.whole, series.whole.word, nets)}"
        found.append(f"{said}. {reading(series)}{other_warm_up(series)}")
        if len(series.steps) > 1:
            pairs = zip(series.depths, series.depths[1:], series.steps, strict=False)
            each = [f"{shallow} to {deep} {points_of(step)} ({certainty(step)})" for shallow, deep, step in pairs]
            found.append(f"{series.series}, depth by depth: {'; '.join(each)}.")
    return found


def other_warm_up(series: SeriesVerdict) -> str:
    """Return a sentence on warm-up that differs over depth, as in the paper's net of 110 layers; else nothing."""
    shallow, deep = series.warm_up
    if shallow == deep:
        return ""
    first, last = series.depths[0], series.depths[-1]
    return f" Depth is not all that differs: {last} layers have {deep:,} steps of warm-up, {first} layers {shallow:,}."


def exclusions(verdict: Verdict) -> list[str]:
    """Return a sentence on the runs that the verdict leaves out, one for each reason."""
    names: dict[str, list[str]] = {}
    for run, reason in verdict.left_out:
        names.setdefault(reason, []).append(run.name)
    return [exclusion(runs, reason) for reason, runs in names.items()]


def exclusion(runs: list[str], reason: str) -> str:
    """Return a sentence on ``runs``, by name, that are left out for the same ``reason``."""
    if len(runs) == 1:
        return f"{runs[0]} is not in the verdict: {reason}."
    others = f"{len(runs) - 1} other run{'s' if len(runs) > 2 else ''}"
    return f"{runs[0]} and {others} are not in the verdict: {reason.replace('its recipe', 'their recipe')}."


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


def points_of(gap: Gap) -> str:
    """Return the difference in percentage points, signed."""
    return f"{round(100 * gap.difference, 2) + 0.0:+.2f} points"  # Adding 0 turns -0.0 into +0.0.


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


def percent(error: float) -> str:
    """Return ``error``, a fraction, in per cent: to a tenth, below 10 to a hundredth."""
    return "0" if error == 0 else f"{100 * error:.{1 if error > 0.09995 else 2}f}"


def reading(series: SeriesVerdict) -> str:
    """Return the gap in test error, and whether the deeper net degrades or overfits."""
    test = f"Test error: {points_of(series.test)}"
    if series.whole.word == DEGRADES:
        return f"{test}; the gap is in training error, so this is degradation, not overfitting."
    if not series.test.is_above:
        return f"{test}."
    if series.whole.word in (DOES_NOT_DEGRADE, EQUAL):
        return f"{test}; the gap is in test error only, so this is overfitting, not degradation."
    return f"{test}; that gap is beyond seeds, the one in training error is not."


def statements(verdict: Verdict, where: str = "") -> list[Statement]:
    """Return a statement on each series of ``verdict``; ``where`` in their names distinguishes several verdicts."""
    return [
        Statement(f"{each.series}, {each.depths[0]} / {each.depths[-1]} layers{where}", each.whole, each.whole.word)
        for each in verdict.series
    ]


def table(stated: Sequence[Statement]) -> list[dict[str, str]]:
    """Return a row of text for each of ``stated``, with its p-value as it is and adjusted for all of them."""
    adjusted = holm([each.gap.p_value for each in stated])
    return [
        {
            "net": each.name,
            "verdict": claim(each.gap, each.word).partition(" (")[0],
            "training errors (%)": f"{each_error(each.gap.others)} / {each_error(each.gap.errors)}",
            "gap (points)": f"{100 * each.gap.difference:+.2f}",
            "95 % interval": bounds(each.gap) if each.gap.interval else "",
            "p": "" if each.gap.p_value is None else f"{each.gap.p_value:.2g}",
            "Holm p": "" if more is None else f"{more:.2g}",
        }
        for each, more in zip(stated, adjusted, strict=True)
    ]


def table_caption(stated: Sequence[Statement]) -> str:
    """Return the explanation of the columns of ``table``."""
    count = sum(each.gap.p_value is not None for each in stated)
    adjusted = f"Holm p is p adjusted for {'the only verdict' if count == 1 else f'the {count} verdicts'} with one. "
    return (
        "Training errors of each seed of one net / of the other, and how much higher the other's are; interval and p "
        f"are Welch's, and the verdict follows them. {adjusted if count else ''}"
        f'"{DOES_NOT_DEGRADE.capitalize()}" says that the upper end of the {100 * EQUIVALENCE_CONFIDENCE:.0f} % '
        f"interval is below {100 * MARGIN:g} point."
    )
