"""Publish a study: keep the records of its runs and write its page.

    python -m experiments.publish runs/digits_single               # into results/digits_single
    python -m experiments.publish results/digits_single            # the page again, from its records
    python -m experiments.publish runs/digits_rates --rates
    python -m experiments.publish runs/why_digits results/digits_routes results/digits_identity

Packs the records of every run, from which figures and numbers are made again, into records.tar.xz of --out: config,
environment, identity, metrics, summary and what experiments.diagnose has measured, without weights. Writes figures and
README.md there: question, protocol, what was run, what was found; experiments.gallery shows found.json. Your own answer
to the question, answer.md in that folder, stands above the verdict. All commands that read run directories read
records.tar.xz too; tar -xf unpacks it. The first folder is a sweep's. Runs of further folders appear in the panels of
what the nets look like inside, as in experiments.why.

Exit status: 0 done, 2 there is nothing to publish or the command needs fixing.
"""

import fnmatch
import itertools
import pathlib
import shlex
import shutil

from absl import flags

from experiments import command, comparing
from resnet_jax import archive
from resnet_jax.analysis.diagnosed import read_diagnosed
from resnet_jax.analysis.runs import Run, group_seeds, read_runs
from resnet_jax.errors import UserError
from resnet_jax.instruments.diagnosis import FOLDER
from resnet_jax.report import study, tables, why, why_page
from resnet_jax.report.findings import nets_of_study, not_started, ordered_nets
from resnet_jax.report.pictures import save
from resnet_jax.rundir import read_sweep
from resnet_jax.safe_files import (
    files_below,
    read_bytes,
    read_text,
    within,
    write_bytes,
    write_json,
    write_text,
)
from resnet_jax.terminal import say

_OUT = command.define_path("out", "Folder of the page; by default results/ plus the name of the study's folder.")
flags.adopt_module_key_flags(comparing)

# What whoever asked the question makes of the results, in words; the page has it above the verdict.
ANSWER, SWEEP = "answer.md", "sweep.json"
# Files of a run directory that figures and tables are made from, and the measurements of experiments.diagnose.
RECORDS = ("config.json", "environment.json", "identity.json", "metrics.jsonl", "summary.json", f"{FOLDER}/*.jsonl")


def records_of(folder: pathlib.Path) -> dict[str, bytes]:
    """Return the records of the sweep in ``folder`` and of its runs, contents by relative path.

    Raises:
      UserError: a link leaves ``folder``.
    """
    sweep = read_sweep(folder)
    runs = sweep["runs"] if sweep else {}
    for run in runs:
        within(folder / run / FOLDER, folder)  # A folder that is a link would be left out silently.
    found = {}
    for file in files_below(folder):
        run, _, name = file.relative_to(folder).as_posix().partition("/")
        if run == SWEEP or (run in runs and any(fnmatch.fnmatch(name, pattern) for pattern in RECORDS)):
            found[f"{run}/{name}" if name else run] = read_bytes(within(file, folder)) or b""
    return found


def pack_records(folder: pathlib.Path, out: pathlib.Path) -> None:
    """Pack the records of the sweep in ``folder`` into the archive of ``out``, in place of earlier ones of its runs.

    Records of other runs that are published in ``out`` stay. Folders of runs, which earlier versions published, go into
    the archive too.

    Raises:
      UserError: ``out`` holds another study, or something else.
    """
    here, there = read_sweep(folder), read_sweep(out)
    assert here is not None
    if there is None and out.is_dir() and any(out.iterdir()):
        raise UserError(f"--out={out} holds something else than a study; choose another --out.")
    if there is not None and there["file"] != here["file"]:
        raise UserError(f"--out={out} holds the study {there['file']}; choose another --out.")
    earlier = records_of(out)
    folders = [out / run for run in (there["runs"] if there else ()) if (out / run).is_dir()]
    for file in itertools.chain.from_iterable(map(files_below, folders)):
        if file.relative_to(out).as_posix() not in earlier:
            raise UserError(f"--out={out} holds runs, not only their records: {file}; choose another --out.")
    kept = {name: content for name, content in earlier.items() if name.partition("/")[0] not in here["runs"]}
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / archive.FILE, archive.packed(kept | records_of(folder)))
    for each in folders:
        shutil.rmtree(each)
    (out / SWEEP).unlink(missing_ok=True)


def inside_the_nets(
    out: pathlib.Path, others: list[pathlib.Path], runs: list[Run]
) -> tuple[why.Page | None, list[str]]:
    """Return the measurements of ``runs`` in ``out``, None if there are none, and messages on damaged files.

    Args:
      out: the folder of the page.
      others: folders of further runs.
      runs: that were read in ``out``.
    """
    nets = group_seeds(runs)
    measured, problems = read_diagnosed([out], nets)
    if not measured:
        return None, problems
    further = (nets_of_study(read_runs([folder])[0], read_sweep(folder)) for folder in others)
    return why.page(measured, nets, *further), problems


def main(arguments: list[str]) -> int:
    """Publish the study in the folder ``arguments``; return the exit status."""
    if not arguments:
        raise UserError("give the folder of a sweep, e.g. runs/digits_single or results/digits_single.")
    folder, *others = map(pathlib.Path, arguments)
    sweep = read_sweep(folder) if folder.is_dir() else None
    if sweep is None:
        raise UserError(f"{folder} is not the folder of a sweep: it has no sweep.json; publish one like runs/NAME.")
    out = pathlib.Path(_OUT.value or pathlib.Path("results", folder.resolve().name))
    with command.saving(out):
        if out.resolve() != folder.resolve():
            pack_records(folder, out)
        runs, problems = comparing.read([out])
        problems += not_started({out: sweep})
        found = comparing.findings(runs, [sweep])
        words = ["python", "-m", "experiments.publish", str(out), *map(str, others), *comparing.given()]
        words += [f"--import={file}" for file in command.imported_files()]
        answer = read_text(out / ANSWER) or ""
        inside, unmeasured = inside_the_nets(out, others, runs)
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
