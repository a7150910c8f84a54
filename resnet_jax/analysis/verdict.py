"""Does depth degrade training, by how much, and how certain is that?

The degradation gap is the final training error of the deeper net minus that of the shallower one, on the whole training
set without augmentation, averaged over seeds.
"""

import collections
import itertools
import json
import warnings
from typing import NamedTuple

import numpy as np
from scipy import stats

from resnet_jax.analysis.runs import Replicates, Run, differing_fields, group_depths, group_seeds, recipe
from resnet_jax.sweeps.claims import DEGRADES, DOES_NOT_DEGRADE

CONFIDENCE = 0.95
RESAMPLES = 4_999
# With two seeds a nominal 95 % interval would contain the true gap in only 6 cases of 10.
LEAST_SEEDS = 3
INCONCLUSIVE = "inconclusive"
WORDS = {1: DEGRADES, 0: INCONCLUSIVE, -1: DOES_NOT_DEGRADE}


class Gap(NamedTuple):
    """How much higher the error of the deeper net is, as a fraction.

    Attributes:
      difference: of the means over seeds.
      interval: 95 % confidence interval; None if there are too few seeds.
      p_value: of Welch's t-test for equal means; None if there are too few seeds, or no variance.
      seeds: the smaller number of seeds of the two nets.
    """

    difference: float
    interval: tuple[float, float] | None
    p_value: float | None
    seeds: int

    @property
    def sign(self) -> int:
        """1: the deeper net is worse. -1: it is not. 0: inconclusive."""
        if self.interval is None:
            return 1 if self.difference > 0 else -1
        low, high = self.interval
        if low > 0 and (self.p_value is None or self.p_value < 1 - CONFIDENCE):
            return 1
        return -1 if high <= 0 else 0


class SeriesVerdict(NamedTuple):
    """The verdict on one series.

    Attributes:
      series: its name.
      depths: from the shallowest to the deepest.
      steps: gaps in training error between each depth and the next.
      whole: gap in training error between the shallowest and the deepest net.
      test: gap in test error between the same nets.
    """

    series: str
    depths: list[int]
    steps: list[Gap]
    whole: Gap
    test: Gap


class Verdict(NamedTuple):
    """The verdict on all series, and the runs it leaves out, each with the reason."""

    series: list[SeriesVerdict]
    left_out: list[tuple[Run, str]]


def gap(deep: np.ndarray, shallow: np.ndarray) -> Gap:
    """Return the gap between the final errors of a deep and a shallow net, fractions ``[seeds]``.

    The interval is the expanded percentile bootstrap of the difference of means: its quantiles are widened according to
    the number of seeds (Hesterberg 2015, "What teachers should know about the bootstrap").
    """
    difference = float(np.mean(deep) - np.mean(shallow))
    seeds = min(len(deep), len(shallow))
    if seeds < LEAST_SEEDS:
        return Gap(difference, None, None, seeds)
    if np.ptp(deep) == np.ptp(shallow) == 0:
        return Gap(difference, (difference, difference), None, seeds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Of one net whose seeds have equal errors.
        welch = stats.ttest_ind(deep, shallow, equal_var=False)
    quantile = np.sqrt(seeds / (seeds - 1)) * stats.t.ppf((1 + CONFIDENCE) / 2, welch.df)
    result = stats.bootstrap(
        (deep, shallow),
        lambda deep, shallow, axis: np.mean(deep, axis) - np.mean(shallow, axis),
        confidence_level=1 - 2 * stats.norm.sf(quantile),
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    interval = (float(result.confidence_interval.low), float(result.confidence_interval.high))
    return Gap(difference, interval, float(welch.pvalue), seeds)


def judge(runs: list[Run]) -> Verdict:
    """Return the verdict on ``runs``.

    Unfinished runs, and runs whose recipe differs from that of most, are left out; the latter are not named where there
    is no verdict at all, as in sweeps over learning rates.
    """
    unfinished = [(run, unfinished_reason(run)) for run in runs if not run.finished]
    finished = [run for run in runs if run.finished]
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
    """Return why ``run`` has not finished."""
    if run.summary is not None and run.summary["status"] == "diverged":
        return f"diverged at step {run.summary['steps']:,}"
    return f"unfinished at step {run.step:,} of {run.config['steps']:,}"


def judge_series(nets: list[Replicates]) -> SeriesVerdict:
    """Return the verdict on ``nets`` of one series, in order of depth."""

    def between(shallow: Replicates, deep: Replicates, split: str) -> Gap:
        errors = [np.array([run.final(split) for run in net.finished]) for net in (deep, shallow)]
        return gap(*errors)

    return SeriesVerdict(
        nets[0].series,
        [net.depth for net in nets],
        [between(shallow, deep, "train_clean") for shallow, deep in itertools.pairwise(nets)],
        between(nets[0], nets[-1], "train_clean"),
        between(nets[0], nets[-1], "test"),
    )


def sentences(verdict: Verdict) -> list[str]:
    """Return the verdict in words."""
    if not verdict.series:
        return ["No verdict: it needs finished runs of two depths that do not differ otherwise."]
    found = []
    for series in verdict.series:
        first, last = series.depths[0], series.depths[-1]
        points = f"{points_of(series.whole)} of training error from {first} to {last} layers"
        found.append(
            f"{series.series}: {WORDS[series.whole.sign]}, {points} ({certainty(series.whole)}). {reading(series)}"
        )
        if len(series.steps) > 1:
            pairs = zip(series.depths, series.depths[1:], series.steps, strict=False)
            each = [f"{shallow} to {deep} {points_of(step)} ({certainty(step)})" for shallow, deep, step in pairs]
            found.append(f"{series.series}, depth by depth: {'; '.join(each)}.")
    return found


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


def points_of(gap: Gap) -> str:
    """Return the difference in percentage points, signed."""
    return f"{round(100 * gap.difference, 2) + 0.0:+.2f} points"  # Adding 0 turns -0.0 into +0.0.


def certainty(gap: Gap) -> str:
    """Return interval, number of seeds and p-value in words, or why there is no interval."""
    if gap.interval is None:
        return f"{gap.seeds} seed{'s' if gap.seeds > 1 else ''}, an interval needs {LEAST_SEEDS}"
    low, high = (f"{100 * bound:.2f}" for bound in gap.interval)
    p_value = "" if gap.p_value is None else f", Welch p = {gap.p_value:.2g}"
    return f"{100 * CONFIDENCE:.0f} % interval {low} to {high}, {gap.seeds} seeds{p_value}"


def reading(series: SeriesVerdict) -> str:
    """Return the gap in test error, and whether the deeper net degrades or overfits."""
    test = f"Test error: {points_of(series.test)}"
    if series.whole.sign == 1:
        return f"{test}; the gap is in training error, so this is degradation, not overfitting."
    if series.test.sign == 1 and series.test.interval is not None:
        if series.whole.sign == 0:
            return f"{test}; that gap is certain, the one in training error is not."
        return f"{test}; the gap is in test error only, so this is overfitting, not degradation."
    return f"{test}."
