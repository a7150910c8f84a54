"""Compare runs: figures, a table, the verdict on degradation and a report.

    python -m experiments.compare runs/cifar_figure6
    python -m experiments.compare runs/cifar_figure6 runs/cifar_shortcuts --out=comparison

Reads all run directories in and below the given folders, including unfinished runs, and writes to --out: curves and
depths as PNG and SVG, table.md, table.csv, and report.html, a single page that opens without a network.

Exit status: 0 done, 2 there is nothing to compare or the command needs fixing.
"""

import pathlib
import shlex
import sys

import rich
from absl import flags

from experiments import command
from resnet_jax.analysis import figures, tables
from resnet_jax.analysis.report import report
from resnet_jax.analysis.runs import group_seeds, read_runs
from resnet_jax.analysis.verdict import exclusions, judge, sentences
from resnet_jax.errors import UserError
from resnet_jax.rundir import read_json, write_text

_OUT = flags.DEFINE_string("out", None, "Output folder; by default comparison/ in the first folder.")
_LOG_SCALE = flags.DEFINE_bool("log_scale", False, "Draw errors on a logarithmic scale.")
_QUESTION = flags.DEFINE_string("question", None, "Question that the report answers; by default that of the sweep.")


def main(arguments: list[str]) -> int:
    """Compare the runs in the folders ``arguments``; return the exit status."""
    if not arguments:
        raise UserError("no folder given; give a run directory or a folder of run directories, e.g. runs/digits_depth.")
    folders = [pathlib.Path(argument) for argument in arguments]
    out = pathlib.Path(_OUT.value or folders[0] / "comparison")
    runs, problems = read_runs(folders)
    sweeps = {folder: sweep for folder in folders if (sweep := read_json(folder / "sweep.json"))}
    for folder, sweep in sweeps.items():
        missing = [name for name in sweep["runs"] if not (folder / name / "config.json").exists()]
        if missing:
            problems.append(
                f"{len(missing)} of {len(sweep['runs'])} runs of {folder} have not started: {', '.join(missing)}."
            )
    nets = group_seeds(runs)
    verdict = judge(runs)
    records = tables.records(nets)
    rows = tables.text_rows(records)
    question = _QUESTION.value or " ".join(sweep["question"] for sweep in sweeps.values())
    reproduce = [shlex.join(sweep["command"]) for sweep in sweeps.values()]
    reproduce.append(shlex.join(["python", "-m", "experiments.compare", *sys.argv[1:]]))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, draw in (("curves", figures.draw_curves), ("depths", figures.draw_depths)):
            figure = draw(nets, _LOG_SCALE.value)
            for suffix in ("png", "svg"):
                figure.savefig(out / f"{name}.{suffix}", dpi=200)
        write_text(out / "table.md", tables.markdown_table(rows))
        write_text(out / "table.csv", tables.csv_table(records))
        title = ", ".join(folder.name for folder in folders)
        write_text(out / "report.html", report(title, question, nets, rows, verdict, problems, reproduce))
    except OSError as error:
        raise UserError(f"--out={out} cannot be written ({error.strerror}); choose another --out.") from error

    if rows:
        rich.print(tables.terminal_table(rows))
    for problem in problems:
        print(problem)
    for exclusion in exclusions(verdict):
        print(exclusion)
    if question:
        print(question)
    for sentence in sentences(verdict):
        print(sentence)
    print(f"Training curves: {out / 'curves.png'}")
    print(f"Report: {out / 'report.html'}")
    return 0


if __name__ == "__main__":
    command.run(main)
