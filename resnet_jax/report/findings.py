"""Findings of a comparison: the verdict, differences and rates, and the figures that show them."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from resnet_jax.analysis import differences, tuning
from resnet_jax.analysis.literature import Comparison, compare
from resnet_jax.analysis.rates import measure
from resnet_jax.analysis.runs import Replicates, Run, group_seeds
from resnet_jax.analysis.verdict import (
    Statement,
    exclusions,
    judge,
    sentences,
    statements,
    table,
    table_caption,
)
from resnet_jax.errors import UserError
from resnet_jax.report import figures, rates_report
from resnet_jax.report.display import in_order
from resnet_jax.report.html_page import Section
from resnet_jax.report.selection import select
from resnet_jax.safe_files import archived


class Judged(NamedTuple):
    """The verdict on runs, before anything is drawn.

    Attributes:
      nets: each at its own best value of a tuned field.
      undecided: runs of nets without a best value, because none has finished.
      verdict: sentences.
      statements: the same in short, a line for each comparison.
      literature: the verdict next to the claims of the sweeps.
      left_out: sentences on runs that are not in the verdict.
      sections: tables of the report.
    """

    nets: list[Replicates]
    undecided: list[Run]
    verdict: list[str]
    statements: list[Statement]
    literature: list[Comparison]
    left_out: list[str]
    sections: list[Section]


class Findings(NamedTuple):
    """What a comparison finds.

    Attributes:
      judged: the verdict.
      drawn: the nets whose curves are drawn.
      not_drawn: sentences on the others.
      figures: figures by file name.
      sections: sections of the report that only some comparisons have.
      rates: the content of rates.json; None without rates.
    """

    judged: Judged
    drawn: list[Replicates]
    not_drawn: list[str]
    figures: dict[str, Figure]
    sections: list[Section]
    rates: dict[str, Any] | None


def find(
    runs: list[Run],
    sweeps: Sequence[dict[str, Any]] = (),
    tuned: tuple[str, float | None] | None = None,
    thresholds: Sequence[float] | None = None,
    log_scale: bool = False,
) -> Findings:
    """Return the findings in ``runs``.

    Args:
      runs: all that were read.
      sweeps: the content of their ``sweep.json``. The series of a single sweep's first run is the reference.
      tuned: the tuned field and its common value.
      thresholds: training losses; None: rates are not measured.
      log_scale: of the errors in the figures.
    """
    claims = {series: claim for sweep in sweeps for series, claim in sweep.get("literature", {}).items()}
    judged = judge_runs(runs, claims, tuned)
    shown = group_seeds([run for net in judged.nets for run in net.runs] + judged.undecided)
    reference = reference_series(shown, sweeps)
    selected = select(shown, reference)
    drawn = in_order(selected.nets, reference)
    pictures = {"nets": figures.draw_nets(in_order(selected.rows, reference), log_scale, shown)}
    if figures.has_depths(drawn):
        pictures["depths"] = figures.draw_depths(drawn, log_scale)
    pictures["curves"] = figures.draw_curves(drawn, log_scale)
    differing = sentences_on_differences(judged.nets, reference)
    sections = [*judged.sections, Section("Net by net", differing, (), pictures["nets"])]
    rates = None
    if thresholds is not None:
        found = measure(judged.nets, thresholds)
        series = {net.series for net in drawn}
        pictures["rates"] = figures.draw_rates([growth for growth in found.growths if growth.series in series])
        sections.append(
            Section("Convergence rates", rates_report.sentences(found), rates_report.rows(found), pictures["rates"])
        )
        rates = rates_report.record(found)
    return Findings(judged, drawn, selected.left_out, pictures, sections, rates)


def judge_runs(
    runs: list[Run], claims: Mapping[str, list[str]], tuned: tuple[str, float | None] | None = None
) -> Judged:
    """Return the verdict on ``runs`` over depth and between twins, next to ``claims`` by series.

    With a ``tuned`` field and its common value there are two verdicts: at each net's best value and at the common one.
    """
    undecided: list[Run] = []
    sections = []
    if tuned:
        found = tuning.tune(runs, *tuned)
        nets, verdicts = found.nets, tuning.verdicts(found)
        without_choice = [each for choice in found.choices if choice.chosen is None for each in choice.candidates]
        undecided = [tuning.with_own_best(run, found.field) for each in without_choice for run in each.runs]
        said, left_out = tuning.verdict_sentences(found), tuning.left_out(found)
        sections.append(Section(tuning.title(found), [tuning.CAPTION], tuning.choice_rows(found)))
    else:
        verdict = judge(runs)
        nets, verdicts = group_seeds(runs), {"": verdict}
        said, left_out = sentences(verdict), exclusions(verdict)
    twins = differences.plain_against_residual(nets)
    *_, where = verdicts  # The last is at best values, at which twins are compared.
    stated = [each for clause, verdict in verdicts.items() for each in statements(verdict, clause)]
    stated += [differences.statement(each, where) for each in twins]
    if stated:
        sections.append(Section("Verdicts", [table_caption(stated)], table(stated)))
    said += map(differences.sentence, twins)
    return Judged(nets, undecided, said, stated, compare(claims, verdicts), left_out, sections)


def sentences_on_differences(nets: Sequence[Replicates], reference: str | None) -> list[str]:
    """Return how ``nets`` differ from the series ``reference``, without the twins that are in the verdict."""
    in_verdict = [{each.net, each.reference} for each in differences.plain_against_residual(nets)]
    found = differences.differences(nets, reference) if reference else []
    return [differences.sentence(each) for each in found if {each.net, each.reference} not in in_verdict]


def ordered_nets(runs: list[Run], sweeps: Sequence[dict[str, Any]]) -> list[Replicates]:
    """Return the nets of ``runs`` in the order of tables, the reference of ``sweeps`` first."""
    nets = group_seeds(runs)
    return in_order(nets, reference_series(nets, sweeps))


def reference_series(nets: Sequence[Replicates], sweeps: Sequence[dict[str, Any]]) -> str | None:
    """Return the series of a single sweep's first run, with which the others are compared; None without one."""
    if len(sweeps) != 1:
        return None
    place = {name: index for index, name in enumerate(sweeps[0]["runs"])}
    first = min(nets, key=lambda net: min(place.get(run.folder.name, len(place)) for run in net.runs), default=None)
    return first.series if first else None


def tuned_field(text: str | None, sweeps: Sequence[dict[str, Any]]) -> tuple[str, float | None] | None:
    """Return the tuned field and its common value, None if there is none.

    Args:
      text: value of --tuned.
      sweeps: the content of each ``sweep.json``.

    Raises:
      UserError: the sweeps tune different fields, or ``text`` has no number after "=".
    """
    recorded = {item for sweep in sweeps for item in sweep.get("tuned", {}).items()}
    if text is None:
        if len(recorded) > 1:
            tuned = ", ".join(f"{field} around {common:g}" for field, common in sorted(recorded))
            raise UserError(f"the sweeps tune different things, {tuned}; compare one, or give --tuned=FIELD=VALUE.")
        return next(iter(recorded), None)
    field, equals, value = text.removeprefix("config.").partition("=")
    if not equals:
        return field, dict(recorded).get(field)
    try:
        return field, float(value)
    except ValueError as error:
        raise UserError(f"--tuned={text}: {value!r} is not a number; give e.g. optimizer.learning_rate=0.1.") from error


def not_started(sweeps: dict[pathlib.Path, dict[str, Any]]) -> list[str]:
    """Return a sentence on each of ``sweeps``, by folder, that lacks runs."""
    problems = []
    for folder, sweep in sweeps.items():
        packed = archived(folder)
        missing = [
            name
            for name in sweep["runs"]
            if f"{name}/config.json" not in packed and not (folder / name / "config.json").exists()
        ]
        if missing:
            problems.append(
                f"{len(missing)} of {len(sweep['runs'])} runs of {folder} have not started: {', '.join(missing)}."
            )
    return problems


def nets_of_study(runs: list[Run], sweep: dict[str, Any] | None) -> list[Replicates]:
    """Return the nets of ``runs``, each at its own best value of the field that ``sweep`` tunes, if it does."""
    tuned = tuned_field(None, [sweep]) if sweep else None
    return tuning.tune(runs, *tuned).nets if tuned else group_seeds(runs)
