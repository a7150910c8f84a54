"""Publish a study: keep the records of its runs and write its page.

    python -m experiments.publish runs/digits_single               # into results/digits_single
    python -m experiments.publish results/digits_single            # the page again, from the records beside it
    python -m experiments.publish runs/digits_rates --rates
    python -m experiments.publish runs/why_digits results/digits_routes results/digits_identity

Copies what regenerates the figures, config, environment, metrics and summary of every run and what experiments.diagnose
has measured of it, without weights, to --out, and writes figures and README.md there: question, protocol, what was run,
what was found; found.json there is what experiments.gallery shows of it. Your own answer to the question, answer.md in
that folder, stands above the verdict. The folder is that of a sweep. Runs of further folders are beside it in what the
nets look like inside, as of experiments.why.

Exit status: 0 done, 2 there is nothing to publish or the command needs fixing.
"""

import pathlib
import shlex

from absl import flags

from experiments import command, comparing
from resnet_jax.analysis.diagnosed import read_diagnosed
from resnet_jax.analysis.runs import Run, group_seeds, read_runs
from resnet_jax.errors import UserError
from resnet_jax.instruments.diagnosis import FOLDER
from resnet_jax.report import study, tables, why, why_page
from resnet_jax.report.findings import nets_of_study, not_started, ordered_nets
from resnet_jax.report.pictures import save
from resnet_jax.rundir import read_bytes, read_sweep, read_text, within, write_bytes, write_json, write_text
from resnet_jax.terminal import say

_OUT = command.define_path("out", "Folder of the page; by default results/ plus the name of the study's folder.")
flags.adopt_module_key_flags(comparing)

# What whoever asked the question makes of the results, in words; the page has it above the verdict.
ANSWER = "answer.md"
# Of a run directory, what figures and tables are made of.
RECORDS = ("config.json", "environment.json", "metrics.jsonl", "summary.json")


def copy_records(folder: pathlib.Path, out: pathlib.Path, names: list[str]) -> None:
    """Copy the records of the runs ``names`` of the sweep in ``folder`` to ``out``, in place of earlier ones.

    Raises:
      UserError: ``out`` holds another study, or something else.
    """
    there = read_sweep(out)
    if there is None and out.is_dir() and any(out.iterdir()):
        raise UserError(f"--out={out} holds something else than a study; choose another --out.")
    here = read_sweep(folder)
    assert here is not None
    if there is not None and there["file"] != here["file"]:
        raise UserError(f"--out={out} holds the study {there['file']}; choose another --out.")
    for run in names:
        for name in RECORDS:
            copy(folder, out, pathlib.Path(run, name))
        for file in (folder / run / FOLDER).glob("*.jsonl"):
            copy(folder, out, file.relative_to(folder))
    copy(folder, out, pathlib.Path("sweep.json"))


def copy(folder: pathlib.Path, out: pathlib.Path, name: pathlib.Path) -> None:
    """Copy the file ``name`` in ``folder``, if there is one, to ``out``; raise a UserError if a link leaves either."""
    content = read_bytes(within(folder / name, folder))
    if content is not None:
        within((out / name).parent, out).mkdir(parents=True, exist_ok=True)
        write_bytes(out / name, content)


def inside_the_nets(
    out: pathlib.Path, beside: list[pathlib.Path], runs: list[Run]
) -> tuple[why.Page | None, list[str]]:
    """Return the measurements of ``runs`` in ``out``, None if there are none, and messages on damaged files.

    Args:
      out: the folder of the page.
      beside: folders of further runs.
      runs: that were read in ``out``.
    """
    nets = group_seeds(runs)
    measured, problems = read_diagnosed([out], nets)
    if not measured:
        return None, problems
    others = (nets_of_study(read_runs([folder])[0], read_sweep(folder)) for folder in beside)
    return why.page(measured, nets, *others), problems


def main(arguments: list[str]) -> int:
    """Publish the study in the folder ``arguments``; return the exit status."""
    if not arguments:
        raise UserError("give the folder of a sweep, e.g. runs/digits_single or results/digits_single.")
    folder, *beside = map(pathlib.Path, arguments)
    sweep = read_sweep(folder) if folder.is_dir() else None
    if sweep is None:
        raise UserError(f"{folder} is not the folder of a sweep: it has no sweep.json; publish one like runs/NAME.")
    out = pathlib.Path(_OUT.value or pathlib.Path("results", folder.resolve().name))
    with command.saving(out):
        if out.resolve() != folder.resolve():
            copy_records(folder, out, list(sweep["runs"]))
        runs, problems = comparing.read([out])
        problems += not_started({out: sweep})
        found = comparing.findings(runs, [sweep])
        words = ["python", "-m", "experiments.publish", str(out), *map(str, beside), *comparing.given()]
        words += [f"--import={file}" for file in command.imported_files()]
        answer = read_text(out / ANSWER) or ""
        inside, unmeasured = inside_the_nets(out, beside, runs)
        problems += unmeasured
        if inside:
            why_page.write_pictures(out, inside, ("png",))
        summary = study.summary(sweep, runs, found, problems, shlex.join(words), answer, inside)
        rows = tables.text_rows(tables.records(ordered_nets(runs, [sweep])))
        for name in found.figures:
            save(found.figures[name], out / f"{name}.png")
        write_json(out / "found.json", summary)
        write_text(out / "README.md", study.page(sweep, summary, found, rows, inside))
    say(f"The page: {out / 'README.md'}")
    return 0


if __name__ == "__main__":
    command.run(main)
