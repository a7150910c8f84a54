"""Compare runs: figures, a table, the verdict on degradation and a report.

    python -m experiments.compare runs/cifar_figure6
    python -m experiments.compare runs/cifar_figure6 runs/cifar_shortcuts --out=comparison
    python -m experiments.compare runs/digits_rates --tuned=optimizer.learning_rate
    python -m experiments.compare runs/cifar_rates --rates --thresholds=1.0,0.5

Reads all run directories in and below the given folders, including unfinished runs, and writes to --out: curves, depths
and nets as PNG and SVG, table.md, table.csv, and report.html, a single page that opens without a network.

Of a sweep with a tuned axis, and with --tuned, each net is judged at its own best value by validation error, and all at
the common value; figures and rates are then of each net at its own best. --rates adds how fast the training loss falls
while the learning rate is constant, and how the steps to a threshold grow with depth: rates.png, rates.svg, rates.json.

What experiments.diagnose has measured of the runs is on the page too: why_NAME.png, why_NAME.svg.

Exit status: 0 done, 2 there is nothing to compare or the command needs fixing.
"""

import pathlib
import shlex
import sys
from typing import Any

import rich
from absl import flags

from experiments import command, findings
from resnet_jax.analysis import tables, why, why_report
from resnet_jax.analysis.contrast import RULE
from resnet_jax.analysis.diagnosed import read_diagnosed
from resnet_jax.analysis.report import Section, report
from resnet_jax.analysis.runs import group_seeds, read_runs
from resnet_jax.errors import UserError
from resnet_jax.rundir import read_json, write_json, write_text

_OUT = flags.DEFINE_string("out", None, "Output folder; by default comparison/ in the first folder.")
_QUESTION = flags.DEFINE_string("question", None, "Question that the report answers; by default that of the sweep.")
flags.adopt_module_key_flags(findings)


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
    folders = [pathlib.Path(argument) for argument in arguments]
    out = pathlib.Path(_OUT.value or folders[0] / "comparison")
    runs, problems = read_runs(folders)
    sweeps = {folder: sweep for folder in folders if (sweep := read_json(folder / "sweep.json"))}
    problems += not_started(sweeps)
    found = findings.findings(runs, list(sweeps.values()))
    nets = group_seeds(runs)
    measured = read_diagnosed(folders, nets)
    page = why.page(measured, nets) if measured else None
    records = tables.records(nets)
    rows = tables.text_rows(records)
    question = _QUESTION.value or " ".join(sweep["question"].partition("\n\n")[0] for sweep in sweeps.values())
    reproduce = [shlex.join(sweep["command"]) for sweep in sweeps.values()]
    reproduce.append(shlex.join(["python", "-m", "experiments.compare", *sys.argv[1:]]))
    left_out = [*problems, *found.left_out]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, figure in found.figures.items():
            for suffix in ("png", "svg"):
                figure.savefig(out / f"{name}.{suffix}", dpi=200)
        write_text(out / "table.md", tables.markdown_table(rows))
        write_text(out / "table.csv", tables.csv_table(records))
        if found.rates:
            write_json(out / "rates.json", found.rates)
        sections = list(found.sections)
        if page:
            why_report.write_pictures(out, page, ("png", "svg"))
            panels = why_report.sections(page, with_library=False)
            sections.append(Section(why_report.TITLE, [RULE], html=panels))
        title = ", ".join(folder.name for folder in folders)
        parts = (found.nets, rows, found.verdict, left_out, reproduce, sections)
        write_text(out / "report.html", report(title, question, runs, *parts))
    except OSError as error:
        raise UserError(f"--out={out} cannot be written ({error.strerror}); choose another --out.") from error

    if rows:
        rich.print(tables.terminal_table(rows))
    for section in found.sections:
        if section.rows:
            rich.print(tables.terminal_table(section.rows, section.title))
    for sentence in [*left_out, *[question] * bool(question), *found.verdict]:
        print(sentence)
    for section in found.sections:
        for text in section.texts:
            print(text)
    for panel in page.panels if page else []:
        print(f"{panel.title}: {panel.says}")
    print(f"Training curves: {out / 'curves.png'}")
    print(f"Report: {out / 'report.html'}")
    return 0


if __name__ == "__main__":
    command.run(main)
