"""Compare runs: figures, a table, the verdict on degradation and a report.

    python -m experiments.compare runs/cifar_figure6
    python -m experiments.compare runs/cifar_figure6 runs/cifar_shortcuts --out=comparison
    python -m experiments.compare runs/digits_rates --tuned=optimizer.learning_rate
    python -m experiments.compare runs/cifar_rates --rates --thresholds=1.0,0.5
    python -m experiments.compare runs/cifar_figure6 --watch

Reads all run directories in and below the given folders, including unfinished runs, and writes to --out: curves, nets
and, of three depths or more, depths as PNG and SVG, table.md, table.csv, and report.html, a single page that opens
without a network.

Of a sweep with a tuned axis, and with --tuned, each net is judged at its own best value by validation error, and all at
the common value; figures and rates are then of each net at its own best. --rates adds how fast the training loss falls
while the learning rate is constant, and how the steps to a threshold grow with depth: rates.png, rates.svg, rates.json.

Of many nets, figures show only the sweep's reference and the extremes: up to 16 series of 10 depths, and 50 nets. A
sentence counts the nets that are only in the tables.

What experiments.diagnose has measured of the runs is on the page too: why_NAME.png, why_NAME.svg.

--watch compares again whenever a run has got on, at most every 30 seconds and for a tenth of the time, and says so in a
line; an open report.html follows. It waits for the first run, and ends when all runs of the folders and of their sweeps
have finished, failed or diverged.

Exit status: 0 done, 2 there is nothing to compare or the command needs fixing, 130 Ctrl-C.
"""

import collections
import pathlib
import shlex
import sys
import time
from typing import NamedTuple

from absl import flags

from experiments import command, comparing
from resnet_jax import terminal
from resnet_jax.analysis.contrast import RULE
from resnet_jax.analysis.diagnosed import read_diagnosed
from resnet_jax.analysis.runs import run_directories
from resnet_jax.errors import UserError
from resnet_jax.report import tables, why, why_page
from resnet_jax.report.findings import Findings, not_started, ordered_nets
from resnet_jax.report.html_page import Section, refreshing, report
from resnet_jax.report.panels import Panel
from resnet_jax.report.pictures import save
from resnet_jax.rundir import read_sweep
from resnet_jax.safe_files import within, write_json, write_text
from resnet_jax.sweeps.watch import TRAINING, all_ended, file_stamps, row

_OUT = command.define_path("out", "Output folder; by default comparison/ in the first folder.")
_QUESTION = flags.DEFINE_string("question", None, "Question that the report answers; by default the sweep's.")
_WATCH = flags.DEFINE_bool("watch", False, "Compare again whenever a run has got on, until all have ended.")
flags.adopt_module_key_flags(comparing)

SECONDS_BETWEEN_LOOKS = 30
# Pause after a comparison, in times of its own duration, because the runs may train on this machine.
PAUSE = 9


class Comparison(NamedTuple):
    """What a comparison has found and written.

    Attributes:
      rows: of the table of all nets.
      found: in the runs.
      panels: what experiments.diagnose has measured of them.
      left_out: sentences on runs that are not in the verdict, not drawn or could not be read.
      question: of the sweeps, if there is one.
    """

    rows: list[dict[str, str]]
    found: Findings
    panels: list[Panel]
    left_out: list[str]
    question: str


def compare(folders: list[pathlib.Path], out: pathlib.Path, refresh: int | None = None) -> Comparison:
    """Compare the runs in ``folders`` and write to ``out``.

    Args:
      folders: of run directories.
      out: where to write.
      refresh: seconds after which a browser loads the page again; None: never.

    Raises:
      UserError: there is nothing to compare, the flags do not fit the runs, or ``out`` cannot be written.
    """
    runs, problems = comparing.read(folders)
    sweeps = {folder: sweep for folder in folders if (sweep := read_sweep(folder))}
    problems += not_started(sweeps)
    found = comparing.findings(runs, list(sweeps.values()))
    nets = ordered_nets(runs, list(sweeps.values()))
    measured, unmeasured = read_diagnosed(folders, nets)
    page = why.page(measured, nets) if measured else None
    records = tables.records(nets)
    rows = tables.text_rows(records)
    question = _QUESTION.value or " ".join(sweep["question"].partition("\n\n")[0] for sweep in sweeps.values())
    reproduce = [shlex.join(sweep["command"]) for sweep in sweeps.values()]
    reproduce.append(shlex.join(["python", "-m", "experiments.compare", *sys.argv[1:]]))
    left_out = [*problems, *unmeasured, *found.judged.left_out, *found.not_drawn]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, figure in found.figures.items():
            for suffix in ("png", "svg"):
                save(figure, out / f"{name}.{suffix}", dpi=200)
        write_text(out / "table.md", tables.markdown_of_nets(rows))
        write_text(out / "table.csv", tables.csv_table(records))
        if found.rates:
            write_json(out / "rates.json", found.rates)
        sections = list(found.sections)
        if page:
            why_page.write_pictures(out, page, ("png", "svg"))
            panels = why_page.sections(page, with_library=False)
            sections.append(Section(why_page.TITLE, [RULE], html=panels))
        title = ", ".join(folder.name for folder in folders)
        verdict = [*found.judged.verdict, *(each.sentence for each in found.judged.literature)]
        parts = (found.drawn, rows, verdict, left_out, reproduce, sections)
        write_text(out / "report.html", report(title, question, runs, *parts, refresh=refresh))
    except OSError as error:
        raise UserError(f"--out={out} cannot be written ({error.strerror}); choose another --out.") from error
    return Comparison(rows, found, page.panels if page else [], left_out, question)


def say(comparison: Comparison) -> None:
    """Print tables, verdict and what else was found."""
    found, question = comparison.found, comparison.question
    if comparison.rows:
        terminal.stdout.print(tables.terminal_table(comparison.rows, width=terminal.stdout.width))
    for section in found.sections:
        if section.rows:
            table = tables.terminal_table(section.rows, section.title, terminal.stdout.width, whole="report.html")
            terminal.stdout.print(table)
    literature = [each.sentence for each in found.judged.literature]
    asked = [" ".join(question.split())] if question else []
    for sentence in [*comparison.left_out, *asked, *found.judged.verdict, *literature]:
        terminal.say(sentence)
    for section in found.sections:
        for text in section.texts:
            terminal.say(text)
    for panel in comparison.panels:
        terminal.say(f"{panel.title}: {panel.says}")


def run_directories_of(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the run directories in and below ``folder``, and those that its sweep will make."""
    sweep = read_sweep(folder)
    try:
        found = run_directories([folder])
    except UserError:  # There are none yet.
        found = []
    return list(dict.fromkeys([*found, *(folder / name for name in (sweep["runs"] if sweep else []))]))


def watch(folders: list[pathlib.Path], out: pathlib.Path) -> None:
    """Compare the runs in ``folders`` whenever one has got on, until each folder has runs and all are over.

    Each comparison, written to ``out``, is said in a line, as is why there is none yet. Meanwhile a browser that shows
    the page loads it again and again.
    """
    page, compared = out / "report.html", None
    try:
        while True:
            start = time.monotonic()
            workdirs = [run_directories_of(folder) for folder in folders]
            rows = [row(workdir, time.time()) for each in workdirs for workdir in each]
            if all(workdirs) and all_ended(rows):
                return
            now = file_stamps([workdir for each in workdirs for workdir in each])
            if now != compared:
                compared = now
                try:
                    compare(folders, out, refresh=SECONDS_BETWEEN_LOOKS)
                    states = collections.Counter(each.state for each in rows)
                    says = f"{page}: {states['finished']} of {len(rows)} runs finished, {states[TRAINING]} training"
                except (UserError, OSError) as error:  # OSError: a run directory has vanished meanwhile.
                    says = f"nothing compared yet: {error}"
                terminal.say(f"{time.strftime('%H:%M:%S')} {says}")
            time.sleep(max(SECONDS_BETWEEN_LOOKS, PAUSE * (time.monotonic() - start)))
    finally:
        if page.exists():
            write_text(page, within(page).read_text(encoding="utf-8").replace(refreshing(SECONDS_BETWEEN_LOOKS), ""))


def main(arguments: list[str]) -> int:
    """Compare the runs in the folders ``arguments``; return the exit status."""
    if not arguments:
        raise UserError("no folder given; give a run directory or a folder of run directories, e.g. runs/digits_depth.")
    folders = [pathlib.Path(argument) for argument in arguments]
    out = pathlib.Path(_OUT.value) if _OUT.value else within(folders[0] / "comparison")
    if _WATCH.value:
        watch(folders, out)
    say(compare(folders, out))
    terminal.say(f"Training curves: {out / 'curves.png'}")
    terminal.say(f"Report: {out / 'report.html'}")
    return 0


if __name__ == "__main__":
    command.run(main, interrupted="Interrupted; the same command compares again.")
