"""What a comparison of runs finds: figures, the verdict, differences and rates."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from resnet_jax.analysis import differences, tuning
from resnet_jax.analysis.literature import Comparison, compare
from resnet_jax.analysis.rates import measure
from resnet_jax.analysis.runs import Replicates, Run, group_seeds
from resnet_jax.analysis.verdict import exclusions, judge, sentences, statements, table, table_caption
from resnet_jax.errors import UserError
from resnet_jax.report import figures, rates_report
from resnet_jax.report.display import in_order
from resnet_jax.report.html_page import Section
from resnet_jax.report.selection import select
from resnet_jax.safe_files import read_bytes


class Findings(NamedTuple):
    """What a comparison finds.

    Attributes:
      nets: each at its own best value of a tuned field.
      drawn: the nets whose curves are drawn.
      not_drawn: sentences on the others.
      figures: by file name.
      verdict: in sentences.
      literature: the verdict beside what others found, as the sweeps say.
      left_out: sentences on runs that are not in the verdict.
      sections: of the report, that only some comparisons have.
      rates: the content of rates.json; None without rates.
    """

    nets: list[Replicates]
    drawn: list[Replicates]
    not_drawn: list[str]
    figures: dict[str, Figure]
    verdict: list[str]
    literature: list[Comparison]
    left_out: list[str]
    sections: list[Section]
    rates: dict[str, Any] | None


def find(
    runs: list[Run],
    sweeps: Sequence[dict[str, Any]] = (),
    tuned: tuple[str, float | None] | None = None,
    thresholds: Sequence[float] | None = None,
    log_scale: bool = False,
) -> Findings:
    """Return what is found in ``runs``.

    Args:
      runs: all that were read.
      sweeps: the content of their ``sweep.json``. The first run of a single one is of the series that the others are
        compared with.
      tuned: the tuned field and its common value.
      thresholds: training losses; None: rates are not measured.
      log_scale: of the errors in the figures.
    """
    sections, undecided = [], []
    if tuned:
        choices = tuning.tune(runs, *tuned)
        nets, verdicts = choices.nets, tuning.verdicts(choices)
        without_choice = [each for choice in choices.choices if choice.chosen is None for each in choice.candidates]
        undecided = [tuning.with_own_best(run, choices.field) for each in without_choice for run in each.runs]
        verdict, left_out = tuning.verdict_sentences(choices), tuning.left_out(choices)
        sections.append(Section(tuning.title(choices), [tuning.CAPTION], tuning.choice_rows(choices)))
    else:
        judged = judge(runs)
        nets, verdicts = group_seeds(runs), {"": judged}
        verdict, left_out = sentences(judged), exclusions(judged)
    twins = differences.plain_against_residual(nets)
    verdict += map(differences.sentence, twins)
    stated = [each for where, judged in verdicts.items() for each in statements(judged, f", {where}" * bool(where))]
    stated += map(differences.statement, twins)
    if stated:
        sections.append(Section("Verdicts", [table_caption(stated)], table(stated)))
    claims = {series: claim for sweep in sweeps for series, claim in sweep.get("literature", {}).items()}
    compared = compare(claims, verdicts)
    shown = group_seeds([run for net in nets for run in net.runs] + undecided)
    reference = reference_series(shown, sweeps)
    selected = select(shown, reference)
    drawn = in_order(selected.nets, reference)
    pictures = {"nets": figures.draw_nets(in_order(selected.rows, reference), log_scale, shown)}
    if figures.has_depths(drawn):
        pictures["depths"] = figures.draw_depths(drawn, log_scale)
    pictures["curves"] = figures.draw_curves(drawn, log_scale)
    beside = differences.differences(nets, reference) if reference else []
    in_verdict = [{each.net, each.reference} for each in twins]
    others = [differences.sentence(each) for each in beside if {each.net, each.reference} not in in_verdict]
    sections.append(Section("Net by net", others, (), pictures["nets"]))
    rates = None
    if thresholds is not None:
        found = measure(nets, thresholds)
        series = {net.series for net in drawn}
        pictures["rates"] = figures.draw_rates([growth for growth in found.growths if growth.series in series])
        sections.append(
            Section("Convergence rates", rates_report.sentences(found), rates_report.rows(found), pictures["rates"])
        )
        rates = rates_report.record(found)
    return Findings(nets, drawn, selected.left_out, pictures, verdict, compared, left_out, sections, rates)


def ordered_nets(runs: list[Run], sweeps: Sequence[dict[str, Any]]) -> list[Replicates]:
    """Return the nets of ``runs`` in the order of tables, the reference of ``sweeps`` first."""
    nets = group_seeds(runs)
    return in_order(nets, reference_series(nets, sweeps))


def reference_series(nets: Sequence[Replicates], sweeps: Sequence[dict[str, Any]]) -> str | None:
    """Return the series that the others are compared with, that of the first run of a single sweep; None without."""
    if len(sweeps) != 1:
        return None
    place = {name: index for index, name in enumerate(sweeps[0]["runs"])}
    first = min(nets, key=lambda net: min(place.get(run.folder.name, len(place)) for run in net.runs), default=None)
    return first.series if first else None


def tuned_field(text: str | None, sweeps: Sequence[dict[str, Any]]) -> tuple[str, float | None] | None:
    """Return the tuned field and its common value, None if there is none.

    Args:
      text: that of --tuned.
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
        raise UserError(f"--tuned={text}: {value!r} is no number; give e.g. optimizer.learning_rate=0.1.") from error


def not_started(sweeps: dict[pathlib.Path, dict[str, Any]]) -> list[str]:
    """Return a sentence on each of ``sweeps``, by folder, of which runs are missing."""
    problems = []
    for folder, sweep in sweeps.items():
        missing = [name for name in sweep["runs"] if read_bytes(folder / name / "config.json") is None]
        if missing:
            problems.append(
                f"{len(missing)} of {len(sweep['runs'])} runs of {folder} have not started: {', '.join(missing)}."
            )
    return problems


def nets_of_study(runs: list[Run], sweep: dict[str, Any] | None) -> list[Replicates]:
    """Return the nets of ``runs``, those of ``sweep`` if there is one, each at its own best value of a tuned field."""
    tuned = tuned_field(None, [sweep]) if sweep else None
    return tuning.tune(runs, *tuned).nets if tuned else group_seeds(runs)
