"""Train all runs of a sweep.

    python -m experiments.sweep --config=configs/sweeps/digits_depth.py
    python -m experiments.sweep --config=configs/sweeps/cifar_figure6.py --dry_run
    python -m experiments.sweep --config=configs/sweeps/cifar_figure6.py --only=model.depth=56,model.residual=True
    python -m experiments.sweep --config=configs/sweeps/cifar_figure6.py --shard=2/8
    python -m experiments.sweep --config=configs/sweeps/cifar_figure6.py --launcher=slurm --slurm=slurm_partition=gpu
    python -m experiments.sweep --config=configs/sweeps/cifar_figure6.py --watch
    python -m experiments.sweep --folder=runs/cifar_figure6 --watch

A sweep file has get_config(), like any config, and get_sweep(), which returns or yields overrides, one dictionary per
run. All runs are checked as training would check them before the first one starts, and by --dry_run. A run whose
config.from_run is another run of the sweep is trained after that. Along an axis that it marks as tuned,
experiments.compare judges each net at its own best value by validation error. Overrides on the command line apply to
all runs. Finished runs are skipped and interrupted ones resumed, so the same command continues a sweep.
--launcher=slurm submits the runs and does not wait for them; --dry_run shows their state, and of those that failed the
reason.

--watch trains nothing and writes nothing: it shows how far the runs are, wherever they train, on any machine that sees
their folder, until none is left to do. A run's time left is by its own newest records; the sweep's supposes that as
many runs train at a time as now. A run that has written nothing for ten minutes is no longer called training. Without
a terminal the table is printed at most once a minute, when something has changed. Once a sweep has begun, --folder is
enough; then the time left of the sweep is known only when no run waits.

Exit status: 0 all runs have finished, 1 a run failed or has not ended, 2 the command or the sweep needs fixing, 130
Ctrl-C.
"""

import pathlib
import sys
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags
from rich.table import Table

from experiments import command
from resnet_jax.config import flatten
from resnet_jax.errors import UserError
from resnet_jax.rundir import read_sweep
from resnet_jax.safe_files import within, write_json
from resnet_jax.sweeps import display, local, slurm
from resnet_jax.sweeps import file as sweep_file
from resnet_jax.sweeps.checks import Checks, in_turns, starts_from
from resnet_jax.sweeps.grid import tuned_fields
from resnet_jax.sweeps.plan import (
    Cost,
    PlannedRun,
    Problems,
    cost,
    failure,
    log_of,
    plan,
    selected_runs,
    shard,
    state,
    value_of,
)
from resnet_jax.sweeps.watch import FAILED
from resnet_jax.terminal import Terminal, console, say, stdout
from resnet_jax.training.start import source_path

_CONFIG = command.define_config("Sweep file, one of configs/sweeps/*.py.")
_FOLDER = command.define_path("folder", "Folder of the run directories; by default runs/ plus the sweep's name.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "List the runs with their cost and state, without training.")
_WATCH = flags.DEFINE_bool("watch", False, "Show how far the runs are until all have ended, without training.")
_ONLY = flags.DEFINE_string("only", None, "Select runs by their fields, e.g. model.depth=56,seed=0.")
_SHARD = flags.DEFINE_string("shard", None, "Select a shard of the runs, e.g. 2/8 for the second of eight.")
_LAUNCHER = flags.DEFINE_enum("launcher", "local", ["local", "slurm"], "Where to train the runs.")
_WORKERS = flags.DEFINE_integer(
    "workers", None, "Number of runs to train at a time; by default as many as fit.", lower_bound=1
)
_SLURM = flags.DEFINE_list("slurm", [], "submitit parameters for Slurm, e.g. slurm_partition=gpu,timeout_min=600.")


def check_sweep(folder: pathlib.Path, file: str) -> None:
    """Raise a UserError if ``folder`` holds a sweep of another file than ``file``."""
    recorded = read_sweep(folder)
    if recorded is not None and recorded["file"] != file:
        raise UserError(f"--folder={folder} already holds the sweep {recorded['file']}; choose another --folder.")


def longest_first(runs: list[PlannedRun], costs: dict[str, Cost]) -> list[PlannedRun]:
    """Return ``runs`` by falling cost, so that no core idles at the end."""
    return sorted(runs, key=lambda run: -costs[run.name].multiply_adds)


def plan_table(runs: list[PlannedRun], costs: list[Cost]) -> Table:
    """Return ``runs`` with their cost and state as a table."""
    total = sum(each.multiply_adds for each in costs)
    table = Table(title="Estimated multiply-adds of all training steps", show_footer=True)
    table.add_column("run", f"{len(runs)} runs")
    table.add_column("parameters", "", justify="right")
    table.add_column("multiply-adds", f"{total:.2e}", justify="right")
    table.add_column("state", "")
    for run, each in zip(runs, costs, strict=True):
        table.add_row(run.name, f"{each.parameters:,}", f"{each.multiply_adds:.2e}", state(run.workdir))
    return table


def recorded_runs(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the run directories of the sweep in ``folder``, also those that do not exist yet."""
    recorded = read_sweep(folder)
    if recorded is None:
        raise UserError(f"--folder={folder} has no sweep.json, so no sweep has begun there; give its --config too.")
    if _ONLY.value or _SHARD.value:
        raise UserError("--only and --shard select runs of a --config; give one.")
    return [folder / name for name in recorded["runs"]]


def watch(folder: pathlib.Path, workdirs: list[pathlib.Path], multiply_adds: dict[str, int]) -> int:
    """Show how far the runs in ``workdirs`` are until none is left to do; return the exit status."""
    try:
        rows = display.watch(folder, workdirs, multiply_adds, Terminal(force_terminal=sys.stdout.isatty()))
    except KeyboardInterrupt:
        print("No longer watched; the runs continue.", file=sys.stderr)
        return command.EXIT_INTERRUPTED
    print_failures(workdirs)
    return 1 if any(row.state in FAILED for row in rows) else 0


def print_failures(workdirs: list[pathlib.Path]) -> None:
    """Print the reason and the log of each failed run in ``workdirs``."""
    for workdir in workdirs:
        if state(workdir) == "failed":
            reason = (failure(workdir) or "").removesuffix(".")
            say(f"{workdir.name} failed: {reason}. Its log is {log_of(workdir)}.")


def slurm_settings(words: list[str]) -> dict[str, Any]:
    """Return ``words``, each NAME=VALUE, as a dictionary."""
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise UserError(f"--slurm={word} is not of the form NAME=VALUE.")
        settings[name] = value_of(text)
    return settings


def main(arguments: list[str]) -> int:
    """Plan, select and train the runs of the sweep; return the exit status."""
    command.refuse_arguments(arguments)
    if _DRY_RUN.value and _WATCH.value:
        raise UserError("--dry_run and --watch both show the runs without training; give one of them.")
    jax.config.update("jax_platforms", "cpu")  # This process only counts; accelerators are left to the runs.
    if _WATCH.value and _FOLDER.value and command.config_file(sys.argv) is None:
        folder = pathlib.Path(_FOLDER.value)
        return watch(folder, recorded_runs(folder), {})
    base = command.config_from_flags()
    file = config_flags.get_config_filename(flags.FLAGS["config"])
    path = file.partition(":")[0]  # After a colon there may be an option for the file.
    common = config_flags.get_override_values(flags.FLAGS["config"])
    swept = sweep_file.read(file)
    varied = {field for each in swept.sweep for field in each}
    for field in common:
        if field in varied:
            raise UserError(f"the sweep varies --config.{field} itself; select runs with --only={field}=VALUE.")
    folder = pathlib.Path(_FOLDER.value or pathlib.Path("runs", pathlib.Path(path).stem))
    words = [sys.executable, "-m", "experiments.main", f"--config={file}"]
    words += [f"--import={each.resolve()}" for each in command.imported_files()]
    words += [f"--config.{field}={value}" for field, value in common.items()]
    problems = Problems(swept.where)
    all_runs = runs = plan(base, swept.sweep, folder, words, problems)
    if not runs:
        problems.report(len(swept.sweep))
    if _ONLY.value:
        runs = selected_runs(runs, _ONLY.value)
    if _SHARD.value:
        runs = shard(runs, _SHARD.value)
    if not runs:
        raise UserError(f"--shard={_SHARD.value} has none of the selected runs; give fewer shards.")
    check_sweep(folder, path)
    if _WATCH.value:
        problems.report(len(swept.sweep))
        return watch(folder, [run.workdir for run in runs], {run.name: cost(run.config).multiply_adds for run in runs})

    is_local = _LAUNCHER.value == "local"
    checks = Checks(all_runs, local.devices()[1] if is_local else None, prepares=is_local and not _DRY_RUN.value)
    costs = checks.costs(runs, problems)
    problems.report(len(swept.sweep))
    turns = in_turns([run for run in runs if state(run.workdir) != "finished"])
    if not is_local and len(turns) > 1:
        raise UserError(
            f"{turns[1][0].name} starts from another run of the sweep, and jobs of Slurm do not wait for each other; "
            "select the runs that come first with --only, and submit the others when they have finished."
        )
    for sentence in checks.unchecked:
        print(sentence, file=sys.stderr)
    if _DRY_RUN.value:
        stdout.print(plan_table(runs, [costs[run.name] for run in runs]))
        print_failures([run.workdir for run in runs])
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "version": 1,
        "file": path,
        "question": swept.question,
        "command": ["python", "-m", "experiments.sweep", *sys.argv[1:]],
        "literature": swept.literature,
        "tuned": {field: flatten(base.to_dict())[field] for field in tuned_fields(swept.sweep)},
        "runs": {run.name: run.overrides for run in all_runs},
    }
    write_json(folder / "sweep.json", content)
    left = sum(map(len, turns))
    if left < len(runs):
        console.print(f"{len(runs) - left} of {len(runs)} runs have already finished.")
    if not is_local and left:
        jobs = slurm.submit(longest_first(turns[0], costs), within(folder / "slurm"), slurm_settings(_SLURM.value))
        print(f"Submitted {len(jobs)} jobs: {', '.join(job.job_id for job in jobs)}.")
        print(f"The log of each run is {folder / 'NAME.log'}; submitit's own are in {folder / 'slurm'}.")
        print("The same command with --watch instead of --launcher=slurm shows how far they are.")
        return 0
    failed: list[PlannedRun] = []
    for turn in turns:
        without = {run.workdir.resolve() for run in failed}
        blocked = [run for run in turn if starts_from(run, without)]
        for run in blocked:
            console.print(f"{run.name}: not trained, because {source_path(run.config)}, its start, is not finished")
        ready = longest_first([run for run in turn if run not in blocked], costs)
        workers = min(_WORKERS.value or local.fitting_workers(), max(len(ready), 1))
        failed += blocked + local.train_all(ready, workers, console)
    if failed:
        say(f"{len(failed)} of {left} runs failed: {', '.join(run.name for run in failed)}.")
    unended = [run.name for turn in turns for run in turn if run not in failed and state(run.workdir) != "finished"]
    if unended:
        say(f"{len(unended)} of {left} runs are unfinished: {', '.join(unended)}.")
    say(f"The runs are recorded in {folder}")
    return 1 if failed or unended else 0


if __name__ == "__main__":
    command.run(main)
