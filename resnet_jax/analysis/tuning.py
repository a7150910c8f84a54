"""Each net at its own best value of a tuned field, such as the learning rate, and all nets at the common one.

The value is chosen by validation error, on examples held out of the training set, and its training and test errors are
what the verdict reports: the validation error of the best of several is too low by the choice, and is never a result.

The best value of a net has, in this order: the fewest seeds without a finished run, so that a diverged run counts as
worse than any finished one; the lowest mean validation error after the last step; the lowest mean validation loss; the
least distance from the common value, as a ratio; the lower value.
"""

import collections
import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from resnet_jax.analysis.gap import mean_and_seeds
from resnet_jax.analysis.runs import Replicates, Run, group_seeds
from resnet_jax.analysis.verdict import Verdict, exclusions, judge, sentences
from resnet_jax.errors import UserError
from resnet_jax.fields import TUNABLE_FIELDS

# What a run's config says for the tuned field once its net has chosen, so that all are of one recipe.
OWN_BEST = "each net's own best"
CAPTION = (
    "* has the lowest validation error, and is the best of the values tried. As the lowest of several it is too low, "
    "and therefore no result: the verdict is on training and test error."
)
TIE_BREAKS = ("the smaller validation loss", "the smaller distance from the common value", "the smaller value")


class Candidate(NamedTuple):
    """The runs of one net with one value of the tuned field.

    Attributes:
      value: of the field.
      runs: one per seed.
      missing: seeds of the net that have no finished run with this value.
      errors: on the validation examples after the last step, fractions, of the finished runs.
      loss: the mean of their validation losses; infinite if no run has finished.
    """

    value: float
    runs: list[Run]
    missing: int
    errors: list[float]
    loss: float

    @property
    def error(self) -> float:
        """The mean validation error; infinite if no run has finished."""
        return float(np.mean(self.errors)) if self.errors else math.inf


class Choice(NamedTuple):
    """What a net has chosen.

    Attributes:
      net: its title and what else names its series.
      candidates: by value.
      chosen: the best of them; None if none has a finished run.
      tie: what decided among candidates of equal validation error; empty if the error did.
    """

    net: str
    candidates: list[Candidate]
    chosen: Candidate | None
    tie: str


class Tuning(NamedTuple):
    """The verdicts at the common value and at each net's own best.

    Attributes:
      field: that is tuned.
      common: its value in the config that the sweep changes; None if that is not known.
      choices: one per net.
      nets: with the runs of their chosen values, whose tuned field says ``OWN_BEST``.
      at_best: the verdict on these.
      at_common: the verdict on all runs with the common value; None if there are none.
    """

    field: str
    common: float | None
    choices: list[Choice]
    nets: list[Replicates]
    at_best: Verdict
    at_common: Verdict | None


def tune(runs: list[Run], field: str, common: float | None) -> Tuning:
    """Return the best value of ``field`` for each net of ``runs``, and the verdicts.

    Args:
      runs: that differ in the value of ``field`` and otherwise as for ``verdict.judge``.
      field: the tuned one.
      common: its value before it was tuned, if that is known.

    Raises:
      UserError: ``field`` cannot be tuned, a run has no validation error, or no run has finished.
    """
    check(runs, field)
    by_folder = {run.folder: run for run in runs}
    nets = group_seeds([with_own_best(run, field) for run in runs])
    choices = [choose(net.label, [by_folder[run.folder] for run in net.runs], field, common) for net in nets]
    kept = [run for choice in choices if choice.chosen for run in choice.chosen.runs]
    if not kept:
        raise UserError(f"no run has finished yet, so that no net has its best {field}; compare later.")
    chosen = [with_own_best(run, field) for run in kept]
    with_common = [run for run in runs if run.config[field] == common]
    at_common = judge(with_common) if with_common else None
    return Tuning(field, common, choices, group_seeds(chosen), judge(chosen), at_common)


def check(runs: Sequence[Run], field: str) -> None:
    """Raise a UserError unless ``field`` can be tuned and all ``runs`` hold out validation examples."""
    if field not in TUNABLE_FIELDS:
        raise UserError(
            f"{field} cannot be tuned; give a number of the optimizer, such as --tuned=optimizer.learning_rate."
        )
    for run in runs:
        if run.config["data.validation_examples"] == 0 or (run.finished and "validation" not in final(run)):
            raise UserError(
                f"{run.name} has no validation error, by which the best {field} is chosen; train it with "
                "--config.data.validation_examples above 0, or leave its folder out."
            )


def final(run: Run) -> dict[str, dict[str, float]]:
    """Return the figures of each split after the last step, of a finished run."""
    assert run.summary is not None
    return run.summary["final"]


def with_own_best(run: Run, field: str) -> Run:
    """Return ``run`` with a config in which ``field`` no longer distinguishes it from others."""
    return run._replace(config=run.config | {field: OWN_BEST})


def choose(net: str, runs: Sequence[Run], field: str, common: float | None) -> Choice:
    """Return the choice of the net called ``net`` among its ``runs``; the other arguments are as in ``tune``."""
    seeds = len({run.config["seed"] for run in runs})
    by_value: dict[float, list[Run]] = collections.defaultdict(list)
    for run in runs:
        by_value[run.config[field]].append(run)
    return decide(net, [candidate(value, by_value[value], seeds) for value in sorted(by_value)], common)


def decide(net: str, candidates: list[Candidate], common: float | None) -> Choice:
    """Return the choice of the net called ``net`` among its ``candidates``; ``common`` is the common value."""

    def rank(each: Candidate) -> tuple[float, ...]:
        # Rounded, because the mean of equal counts of errors may differ in its last bits.
        return (each.missing, round(each.error, 9), each.loss, distance(each.value, common), each.value)

    best, *others = sorted(candidates, key=rank)
    if not best.errors:
        return Choice(net, candidates, None, "")
    tie = ""
    if others and rank(others[0])[:2] == rank(best)[:2]:
        differing = next(
            index for index, pair in enumerate(zip(rank(best), rank(others[0]), strict=True)) if len(set(pair)) > 1
        )
        tie = f"{others[0].value:g} has the same validation error, and {TIE_BREAKS[differing - 2]} decides"
    return Choice(net, candidates, best, tie)


def candidate(value: float, runs: list[Run], seeds: int) -> Candidate:
    """Return the candidate ``value`` with its ``runs``, of a net that was trained with ``seeds`` seeds."""
    finished = [run for run in runs if run.complete]
    figures = [final(run)["validation"] for run in finished]
    loss = float(np.mean([each["loss"] for each in figures])) if figures else math.inf
    missing = seeds - len({run.config["seed"] for run in finished})
    return Candidate(value, runs, missing, [each["error"] for each in figures], loss)


def distance(value: float, common: float | None) -> float:
    """Return how far ``value`` is from ``common``, as the logarithm of their ratio; 0 without a common value."""
    if common is None:
        return 0.0
    logarithms = [math.log(max(each, sys.float_info.min)) for each in (value, common)]
    return abs(logarithms[0] - logarithms[1])


def verdicts(tuning: Tuning) -> dict[str, Verdict]:
    """Return the verdicts, each by the clause that says at which value."""
    at_common = {f"at {words(tuning.field)} {tuning.common:g}": tuning.at_common} if tuning.at_common else {}
    return {**at_common, f"at the best {words(tuning.field)} tried": tuning.at_best}


def words(field: str) -> str:
    """Return the name of ``field`` in words, as "learning rate"."""
    return field.rpartition(".")[2].replace("_", " ")


def verdict_sentences(tuning: Tuning) -> list[str]:
    """Return both verdicts in words, and what each net has chosen."""
    found = [f"Each net at the best {words(tuning.field)} of those tried: {said}" for said in sentences(tuning.at_best)]
    if tuning.at_common:
        head = f"All nets at {words(tuning.field)} {tuning.common:g}"
        found = [f"{head}: {said}" for said in sentences(tuning.at_common)] + found
    elif tuning.common is not None:
        found.append(
            f"The common {words(tuning.field)} {tuning.common:g} is not among the runs, so there is no verdict at it."
        )
    else:
        found.append(
            f"No verdict at a common {words(tuning.field)}: no sweep.json says it; give --tuned={tuning.field}=VALUE."
        )
    said = [choice for choice in tuning.choices if len(choice.candidates) > 1 or unfinished(choice)]
    return found + [choice_sentence(choice, tuning.field) for choice in said]


def choice_sentence(choice: Choice, field: str) -> str:
    """Return ``choice`` in words, with the reservations against it."""
    chosen = choice.chosen
    if chosen is None:
        return f"{choice.net} is not in the verdict at best values: no run of it has finished{unfinished(choice)}."
    tried = ", ".join(f"{each.value:g}" for each in choice.candidates)
    parts = [f"{choice.net}: best {words(field)} {chosen.value:g} of {tried}"]
    if len(choice.candidates) == 1:
        parts.append("which is the only one")
    elif chosen in (choice.candidates[0], choice.candidates[-1]):
        parts.append("at the edge of the grid: a wider one may help")
    return ", ".join(parts) + f"; {choice.tie}" * bool(choice.tie) + f"{unfinished(choice)}."


def unfinished(choice: Choice) -> str:
    """Return the number of unfinished runs of each candidate and the reasons, as a clause; empty if all finished."""
    clauses = []
    for each in choice.candidates:
        words = [
            "diverged" if run.diverged else "ended early" if run.finished else "unfinished"
            for run in each.runs
            if not run.complete
        ]
        reasons = collections.Counter(words)
        absent = each.missing - reasons.total()
        reasons |= {"not started": absent} if absent > 0 else {}
        clauses += [
            f"{count} of {len(each.errors) + each.missing} {word} at {each.value:g}" for word, count in reasons.items()
        ]
    return f" ({'; '.join(clauses)})" if clauses else ""


def title(tuning: Tuning) -> str:
    """Return the title of the table of ``choice_rows``."""
    return f"Validation error (%) by {words(tuning.field)}: mean (each seed)"


def choice_rows(tuning: Tuning) -> list[dict[str, Any]]:
    """Return a row of text per net: its validation error in per cent at each value, the chosen one marked by ``*``."""
    values = sorted({each.value for choice in tuning.choices for each in choice.candidates})
    rows = []
    for choice in tuning.choices:
        cells = {each.value: cell(each, each == choice.chosen) for each in choice.candidates}
        rows.append({"net": choice.net} | {f"{value:g}": cells.get(value, "") for value in values})
    return rows


def cell(candidate: Candidate, is_chosen: bool) -> str:
    """Return the validation error of ``candidate`` in per cent, and how many seeds are missing."""
    text = mean_and_seeds(candidate.errors) if candidate.errors else "no finished run"
    missing = f" ({candidate.missing} missing)" if candidate.missing else ""
    return text + missing + " *" * is_chosen


def left_out(tuning: Tuning) -> list[str]:
    """Return sentences on the runs that a verdict leaves out although they have the value that is judged."""
    verdicts = filter(None, (tuning.at_common, tuning.at_best))
    return list(dict.fromkeys(sentence for verdict in verdicts for sentence in exclusions(verdict)))
