"""Compare runs: figures, a table, the verdict on degradation and a report.

    python -m experiments.compare runs/cifar_figure6
    python -m experiments.compare runs/cifar_figure6 runs/cifar_shortcuts --out=comparison
    python -m experiments.compare runs/digits_tuned --tuned=optimizer.learning_rate
    python -m experiments.compare runs/cifar_rates --rates --thresholds=1.0,0.5

Reads all run directories in and below the given folders, including unfinished runs, and writes to --out: curves and
depths as PNG and SVG, table.md, table.csv, and report.html, a single page that opens without a network.

Of a sweep with a tuned axis, and with --tuned, each net is judged at its own best value by validation error, and all at
the common value; figures and rates are then of each net at its own best. --rates adds how fast the training loss falls
while the learning rate is constant, and how the steps to a threshold grow with depth: rates.png, rates.svg, rates.json.

Exit status: 0 done, 2 there is nothing to compare or the command needs fixing.
"""

import pathlib
import shlex
import sys
from typing import Any, NamedTuple

import rich
from absl import flags
from matplotlib.figure import Figure

from experiments import command
from resnet_jax.analysis import figures, rates_report, tables, tuning
from resnet_jax.analysis.rates import measure
from resnet_jax.analysis.report import Section, report
from resnet_jax.analysis.runs import Replicates, Run, group_seeds, read_runs
from resnet_jax.analysis.verdict import exclusions, judge, sentences
from resnet_jax.errors import UserError
from resnet_jax.rundir import read_json, write_json, write_text

_OUT = flags.DEFINE_string("out", None, "Output folder; by default comparison/ in the first folder.")
_LOG_SCALE = flags.DEFINE_bool("log_scale", False, "Draw errors on a logarithmic scale.")
_QUESTION = flags.DEFINE_string("question", None, "Question that the report answers; by default that of the sweep.")
_TUNED = flags.DEFINE_string(
    "tuned",
    None,
    "Field of which each net has its own best value, e.g. optimizer.learning_rate, or FIELD=VALUE with the common "
    "value; by default what the sweep tunes.",
)
_RATES = flags.DEFINE_bool("rates", False, "Measure how fast the training loss falls, and how that depends on depth.")
_THRESHOLDS = flags.DEFINE_list("thresholds", ["1.0", "0.5", "0.1"], "Training losses of --rates, in nats.")


class Findings(NamedTuple):
    """What a comparison finds.

    Attributes:
      nets: that are drawn, each at its own best value of a tuned field.
      figures: by file name.
      verdict: in sentences.
      left_out: sentences on runs that are not in the verdict.
      sections: of the report, that only some comparisons have.
      rates: the content of rates.json; None without --rates.
    """

    nets: list[Replicates]
    figures: dict[str, Figure]
    verdict: list[str]
    left_out: list[str]
    sections: list[Section]
    rates: dict[str, Any] | None


def tuned_field(text: str | None, sweeps: list[dict[str, Any]]) -> tuple[str, float | None] | None:
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


def positive(texts: list[str]) -> list[float]:
    """Return the numbers of --thresholds, the greatest first; raise a UserError if one is not a positive number."""
    try:
        numbers = sorted(set(map(float, texts)), reverse=True)
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        raise UserError(f"--thresholds={','.join(texts)} must be losses above 0, e.g. 1.0,0.5,0.1.")
    return numbers


def find(runs: list[Run], tuned: tuple[str, float | None] | None, thresholds: list[float] | None) -> Findings:
    """Return what is found in ``runs``.

    Args:
      runs: all that were read.
      tuned: the tuned field and its common value.
      thresholds: training losses; None: rates are not measured.
    """
    sections = []
    if tuned:
        choices = tuning.tune(runs, *tuned)
        nets, verdict, left_out = choices.nets, tuning.verdict_sentences(choices), tuning.left_out(choices)
        sections.append(Section(tuning.title(choices), [tuning.CAPTION], tuning.choice_rows(choices)))
    else:
        judged = judge(runs)
        nets, verdict, left_out = group_seeds(runs), sentences(judged), exclusions(judged)
    drawn = {
        "curves": figures.draw_curves(nets, _LOG_SCALE.value),
        "depths": figures.draw_depths(nets, _LOG_SCALE.value),
    }
    if thresholds is None:
        return Findings(nets, drawn, verdict, left_out, sections, None)
    found = measure(nets, thresholds)
    drawn["rates"] = figures.draw_rates(found.growths)
    sections.append(Section("Convergence rates", rates_report.sentences(found), (), drawn["rates"]))
    return Findings(nets, drawn, verdict, left_out, sections, rates_report.record(found))


def not_started(sweeps: dict[pathlib.Path, dict[str, Any]]) -> list[str]:
    """Return a sentence on each of ``sweeps``, by folder, of which runs are missing."""
    problems = []
    for folder, sweep in sweeps.items():
        missing = [name for name in sweep["runs"] if not (folder / name / "config.json").exists()]
        if missing:
            problems.append(
                f"{len(missing)} of {len(sweep['runs'])} runs of {folder} have not started: {', '.join(missing)}."
            )
    return problems


def main(arguments: list[str]) -> int:
    """Compare the runs in the folders ``arguments``; return the exit status."""
    if not arguments:
        raise UserError("no folder given; give a run directory or a folder of run directories, e.g. runs/digits_depth.")
    thresholds = positive(_THRESHOLDS.value) if _RATES.value else None
    folders = [pathlib.Path(argument) for argument in arguments]
    out = pathlib.Path(_OUT.value or folders[0] / "comparison")
    runs, problems = read_runs(folders)
    sweeps = {folder: sweep for folder in folders if (sweep := read_json(folder / "sweep.json"))}
    problems += not_started(sweeps)
    findings = find(runs, tuned_field(_TUNED.value, list(sweeps.values())), thresholds)
    records = tables.records(group_seeds(runs))
    rows = tables.text_rows(records)
    question = _QUESTION.value or " ".join(sweep["question"] for sweep in sweeps.values())
    reproduce = [shlex.join(sweep["command"]) for sweep in sweeps.values()]
    reproduce.append(shlex.join(["python", "-m", "experiments.compare", *sys.argv[1:]]))
    left_out = [*problems, *findings.left_out]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, figure in findings.figures.items():
            for suffix in ("png", "svg"):
                figure.savefig(out / f"{name}.{suffix}", dpi=200)
        write_text(out / "table.md", tables.markdown_table(rows))
        write_text(out / "table.csv", tables.csv_table(records))
        if findings.rates:
            write_json(out / "rates.json", findings.rates)
        title = ", ".join(folder.name for folder in folders)
        parts = (findings.nets, rows, findings.verdict, left_out, reproduce, findings.sections)
        write_text(out / "report.html", report(title, question, runs, *parts))
    except OSError as error:
        raise UserError(f"--out={out} cannot be written ({error.strerror}); choose another --out.") from error

    if rows:
        rich.print(tables.terminal_table(rows))
    for section in findings.sections:
        if section.rows:
            rich.print(tables.terminal_table(section.rows, section.title))
    for sentence in [*left_out, *[question] * bool(question), *findings.verdict]:
        print(sentence)
    for section in findings.sections:
        for text in section.texts:
            print(text)
    print(f"Training curves: {out / 'curves.png'}")
    print(f"Report: {out / 'report.html'}")
    return 0


if __name__ == "__main__":
    command.run(main)
