"""Does depth degrade training, by how much, and how certain is that?

The degradation gap is the final training error of the deeper net minus that of the shallower one, on the whole training
set without augmentation, averaged over seeds; ``resnet_jax.analysis.gap`` has its interval.
"""

import collections
import itertools
import json
from collections.abc import Sequence
from typing import NamedTuple

from resnet_jax.analysis.gap import (
    EQUAL,
    EQUIVALENCE_CONFIDENCE,
    MARGIN,
    NOT_JUDGED,
    Gap,
    bounds,
    certainty,
    claim,
    each_error,
    finding,
    gap,
    holm,
    points_of,
    signed,
)
from resnet_jax.analysis.rates import warm_up
from resnet_jax.analysis.runs import Replicates, Run, differing_fields, group_depths, group_seeds, recipe
from resnet_jax.sweeps.claims import DEGRADES, DOES_NOT_DEGRADE


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
      name: the nets that are compared, as "plain, 20 / 56 layers".
      gap: gap in training error.
      word: the verdict's word on that gap.
      where: what distinguishes several verdicts on the same nets, as "at learning rate 0.1"; else empty.
    """

    name: str
    gap: Gap
    word: str
    where: str = ""

    @property
    def brief(self) -> str:
        """The verdict with the gap and its 95 % interval in points, as "degrades, +28.34 (10.27 to 46.41)"."""
        said = claim(self.gap, self.word)
        interval = f" ({bounds(self.gap)})" if self.gap.interval else ""
        return said if self.word in (EQUAL, NOT_JUDGED) else f"{said}, {signed(self.gap)}{interval}"


class Verdict(NamedTuple):
    """The verdict on all series, and the runs it leaves out, each with the reason."""

    series: list[SeriesVerdict]
    left_out: list[tuple[Run, str]]


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
    """Return a statement on each series of ``verdict``; ``where`` distinguishes several verdicts."""
    return [
        Statement(f"{each.series}, {each.depths[0]} / {each.depths[-1]} layers", each.whole, each.whole.word, where)
        for each in verdict.series
    ]


def table(stated: Sequence[Statement]) -> list[dict[str, str]]:
    """Return a row of text for each of ``stated``, with its p-value as it is and adjusted for all of them."""
    adjusted = holm([each.gap.p_value for each in stated])
    return [
        {
            "net": ", ".join(filter(None, (each.name, each.where))),
            "verdict": claim(each.gap, each.word).partition(" (")[0],
            "training errors (%)": f"{each_error(each.gap.others)} / {each_error(each.gap.errors)}",
            "gap (points)": signed(each.gap),
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
