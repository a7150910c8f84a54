"""Does depth degrade training, by how much, and how sure is that?

The degradation gap is the final training error of the deeper net less that of the shallower, on the whole training set
without augmentation, in the mean over seeds.
"""

import collections
import itertools
import json
from typing import NamedTuple

import numpy as np
from scipy import stats

from resnet_jax.analysis.runs import Net, Run, differing_fields, families, group_runs, recipe

CONFIDENCE = 0.95
RESAMPLES = 4_999
# With two seeds the interval would hold the truth in 6 cases of 10, however wide it is said to be.
LEAST_SEEDS = 3


class Gap(NamedTuple):
    """How much greater the error of a deeper net is, as a fraction.

    Attributes:
      difference: of the means over seeds.
      interval: of 95 % confidence; None where there are too few seeds.
      p_value: of Welch's test that the means are equal; None where there are too few seeds or all are equal.
      seeds: the lesser number of seeds of the two nets.
    """

    difference: float
    interval: tuple[float, float] | None
    p_value: float | None
    seeds: int

    @property
    def sign(self) -> int:
        """1 if the deeper net is worse, -1 if it is not, 0 if that cannot be told."""
        if self.interval is None:
            return 1 if self.difference > 0 else -1
        low, high = self.interval
        if low > 0 and (self.p_value is None or self.p_value < 1 - CONFIDENCE):
            return 1
        return -1 if high <= 0 else 0


class FamilyVerdict(NamedTuple):
    """What the runs of a family say.

    Attributes:
      family: as of its nets.
      depths: from the shallowest to the deepest.
      steps: gaps of training error between each depth and the next.
      whole: gap of training error between the shallowest and the deepest.
      test: gap of test error between these.
    """

    family: str
    depths: list[int]
    steps: list[Gap]
    whole: Gap
    test: Gap


class Verdict(NamedTuple):
    """The verdict on all families, and the runs it leaves out, each with the reason."""

    families: list[FamilyVerdict]
    left_out: list[tuple[Run, str]]


def gap(deep: np.ndarray, shallow: np.ndarray) -> Gap:
    """Return the gap between final errors ``[seeds]`` of a deep and of a shallow net, as fractions.

    The interval is the expanded percentile bootstrap: of resampled means, with quantiles moved outwards to what the
    number of seeds asks (Hesterberg 2015, "What teachers should know about the bootstrap").
    """
    difference = float(np.mean(deep) - np.mean(shallow))
    seeds = min(len(deep), len(shallow))
    if seeds < LEAST_SEEDS:
        return Gap(difference, None, None, seeds)
    if np.ptp(deep) == np.ptp(shallow) == 0:
        return Gap(difference, (difference, difference), None, seeds)
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

    Runs that have not finished, and those of another recipe than most, are left out.
    """
    left_out = [(run, unfinished_reason(run)) for run in runs if not run.finished]
    finished = [run for run in runs if run.finished]
    recipes = collections.Counter(json.dumps(recipe(run), sort_keys=True) for run in finished)
    usual = json.loads(recipes.most_common(1)[0][0]) if recipes else {}
    judged = []
    for run in finished:
        differing = differing_fields([recipe(run), usual])
        if differing:
            fields = ", ".join(f"{name} {recipe(run).get(name)} for {usual.get(name)}" for name in differing)
            left_out.append((run, f"another recipe than most: {fields}"))
        else:
            judged.append(run)
    judged_families = families(group_runs(judged)).values()
    return Verdict([judge_family(nets) for nets in judged_families if len(nets) > 1], left_out)


def unfinished_reason(run: Run) -> str:
    """Return why ``run`` has not finished."""
    if run.summary is not None and run.summary["status"] == "diverged":
        return f"diverged at step {run.summary['steps']:,}"
    return f"unfinished at step {run.step:,} of {run.config['steps']:,}"


def judge_family(nets: list[Net]) -> FamilyVerdict:
    """Return the verdict on ``nets`` of one family, of rising depth."""

    def between(shallow: Net, deep: Net, split: str) -> Gap:
        errors = [np.array([run.final(split) for run in net.finished]) for net in (deep, shallow)]
        return gap(*errors)

    return FamilyVerdict(
        nets[0].family,
        [net.depth for net in nets],
        [between(shallow, deep, "train_clean") for shallow, deep in itertools.pairwise(nets)],
        between(nets[0], nets[-1], "train_clean"),
        between(nets[0], nets[-1], "test"),
    )


def sentences(verdict: Verdict) -> list[str]:
    """Return the verdict in words."""
    if not verdict.families:
        return ["No verdict: there is no family of which two depths have finished under one recipe."]
    said = []
    for family in verdict.families:
        first, last = family.depths[0], family.depths[-1]
        words = {1: "degrades", 0: "is not shown to degrade", -1: "does not degrade"}[family.whole.sign]
        points = f"{points_of(family.whole)} of training error from {first} to {last} layers"
        said.append(f"{family.family}: {words}, {points} ({certainty(family.whole)}). {reading(family)}")
        if len(family.steps) > 1:
            pairs = zip(family.depths, family.depths[1:], family.steps, strict=False)
            each = [f"{shallow} to {deep} {points_of(step)} ({certainty(step)})" for shallow, deep, step in pairs]
            said.append(f"{family.family}, depth by depth: {'; '.join(each)}.")
    return said


def exclusions(verdict: Verdict) -> list[str]:
    """Return a sentence on each run that the verdict leaves out."""
    return [f"{run.name} is not in the verdict: {reason}." for run, reason in verdict.left_out]


def points_of(gap: Gap) -> str:
    """Return the difference in points of per cent, signed."""
    return f"{round(100 * gap.difference, 2) + 0.0:+.2f} points"  # Adding 0 makes -0.0 a +0.0.


def certainty(gap: Gap) -> str:
    """Return the interval and the number of seeds in words, or why there is none."""
    if gap.interval is None:
        return f"{'one seed supports' if gap.seeds == 1 else f'{gap.seeds} seeds support'} no interval"
    low, high = (f"{100 * bound:.2f}" for bound in gap.interval)
    p_value = "" if gap.p_value is None else f", Welch p = {gap.p_value:.2g}"
    return f"{CONFIDENCE:.0%} interval {low} to {high}, {gap.seeds} seeds{p_value}"


def reading(family: FamilyVerdict) -> str:
    """Return whether the deeper net is worse in training or in test error only."""
    test = f"Test error: {points_of(family.test)}"
    if family.whole.sign == 1:
        return f"{test}; the gap is in training error: degradation, not over-fitting."
    if family.test.sign == 1 and family.test.interval is not None:
        return f"{test}; the gap is in test error only: over-fitting, not degradation."
    return f"{test}."
