"""Train all runs of a sweep.

    python -m experiments.sweep --config=configs/sweeps/digits_depth.py
    python -m experiments.sweep --config=configs/sweeps/cifar_figure6.py --dry_run
    python -m experiments.sweep --config=configs/sweeps/cifar_figure6.py --only=model.depth=56,model.residual=True
    python -m experiments.sweep --config=configs/sweeps/cifar_figure6.py --shard=2/8
    python -m experiments.sweep --config=configs/sweeps/cifar_figure6.py --launcher=slurm --slurm=slurm_partition=gpu
    python -m experiments.sweep --config=configs/sweeps/cifar_figure6.py --watch
    python -m experiments.sweep --folder=runs/cifar_figure6 --watch

A sweep file has get_config(), like any config, and get_sweep(), which returns a list of overrides, one per run. Along
an axis that it marks as tuned, experiments.compare judges each net at its own best value by validation error.
Overrides on the command line apply to all runs. Finished runs are skipped and interrupted ones resumed, so the same
command continues a sweep. --launcher=slurm submits the runs and does not wait for them; --dry_run shows their state,
and of those that failed the reason.

--watch trains nothing and writes nothing: it shows how far the runs are, wherever they train, on any machine that sees
their folder, until none is left to do. Time left is by a run's own newest records; that of the sweep supposes that as
many runs train at a time as now. A run that has written nothing for ten minutes is no longer called training. Without
a terminal the table is printed at most once a minute, when something has changed. Once a sweep has begun, --folder is
enough; then the time left of the sweep is known only when no run waits.

Exit status: 0 all runs have finished, 1 a run failed or has not ended, 2 the command or the sweep needs fixing, 130
Ctrl-C.
"""

import importlib.util
import pathlib
import sys
from typing import Any

import jax
import rich
from absl import flags
from ml_collections import config_flags
from rich.console import Console
from rich.table import Table

from experiments import command
from resnet_jax.config import flatten
from resnet_jax.errors import UserError
from resnet_jax.rundir import read_sweep, write_json
from resnet_jax.sweeps import claims, display, local, slurm
from resnet_jax.sweeps.grid import Overrides, tuned_fields
from resnet_jax.sweeps.plan import Cost, PlannedRun, cost, failure, log_of, only, plan, shard, state, value_of
from resnet_jax.sweeps.watch import FAILED
from resnet_jax.terminal import console
from resnet_jax.training.record import check_workdir

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


def load_sweep(file: str) -> tuple[str, dict[str, list[str]], list[Overrides]]:
    """Return the question, which is the docstring, what others have found, and the overrides of sweep file ``file``.

    Raises:
      UserError: it has no get_sweep(), get_sweep() fails, or LITERATURE is malformed.
    """
    path, _, option = file.partition(":")
    spec = importlib.util.spec_from_file_location("sweep", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_sweep"):
        raise UserError(f"--config={file} is not a sweep: it has no get_sweep(); the sweeps are in configs/sweeps/.")
    literature = claims.check(getattr(module, "LITERATURE", {}), file)
    try:
        return (module.__doc__ or "").strip(), literature, module.get_sweep(*[option] if option else [])
    except Exception as error:  # A sweep is a program and can raise anything.
        raise UserError(f"get_sweep() of {file} failed with {type(error).__name__}: {error}.") from error


def check_sweep(folder: pathlib.Path, file: str) -> None:
    """Raise a UserError if ``folder`` holds another sweep than that of ``file``."""
    recorded = read_sweep(folder)
    if recorded is not None and recorded["file"] != file:
        raise UserError(f"--folder={folder} already holds the sweep {recorded['file']}; choose another --folder.")


def check_runs(runs: list[PlannedRun]) -> None:
    """Raise a UserError if a run directory of ``runs`` holds a run of another config."""
    for run in runs:
        try:
            check_workdir(run.workdir, run.config)
        except UserError as error:
            raise UserError(f"{error} The run directories of a sweep are in --folder.") from error


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
        rows = display.watch(folder, workdirs, multiply_adds, Console(force_terminal=sys.stdout.isatty()))
    except KeyboardInterrupt:
        print("No longer watched; the runs go on.", file=sys.stderr)
        return command.EXIT_INTERRUPTED
    print_failures(workdirs)
    return 1 if any(row.state in FAILED for row in rows) else 0


def print_failures(workdirs: list[pathlib.Path]) -> None:
    """Print why runs in ``workdirs`` failed."""
    for workdir in workdirs:
        if state(workdir) == "failed":
            reason = (failure(workdir) or "").removesuffix(".")
            print(f"{workdir.name} failed: {reason}. Its log is {log_of(workdir)}.")


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
    question, literature, overrides = load_sweep(file)
    swept = {field for each in overrides for field in each}
    for field in common:
        if field in swept:
            raise UserError(f"the sweep varies --config.{field} itself; select runs with --only={field}=VALUE.")
    folder = pathlib.Path(_FOLDER.value or pathlib.Path("runs", pathlib.Path(path).stem))
    words = [sys.executable, "-m", "experiments.main", f"--config={file}"]
    words += [f"--import={each.resolve()}" for each in command.imported_files()]
    words += [f"--config.{field}={value}" for field, value in common.items()]
    all_runs = runs = plan(base, overrides, folder, words)
    if _ONLY.value:
        runs = only(runs, _ONLY.value)
    if _SHARD.value:
        runs = shard(runs, _SHARD.value)
    costs = {run.name: cost(run.config) for run in runs}
    if _DRY_RUN.value:
        rich.print(plan_table(runs, list(costs.values())))
        print_failures([run.workdir for run in runs])
        return 0
    check_sweep(folder, path)
    if _WATCH.value:
        multiply_adds = {name: each.multiply_adds for name, each in costs.items()}
        return watch(folder, [run.workdir for run in runs], multiply_adds)

    check_runs(runs)
    finished = [run for run in runs if state(run.workdir) == "finished"]
    runs = [run for run in runs if run not in finished]
    runs.sort(key=lambda run: -costs[run.name].multiply_adds)  # Longest first, so that no core idles at the end.
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "version": 1,
        "file": path,
        "question": question,
        "command": ["python", "-m", "experiments.sweep", *sys.argv[1:]],
        "literature": literature,
        "tuned": {field: flatten(base.to_dict())[field] for field in tuned_fields(overrides)},
        "runs": {run.name: run.overrides for run in all_runs},
    }
    write_json(folder / "sweep.json", content)
    if finished:
        console.print(f"{len(finished)} of {len(finished) + len(runs)} runs have already finished.")
    if _LAUNCHER.value == "slurm":
        jobs = slurm.submit(runs, folder / "slurm", slurm_settings(_SLURM.value))
        print(f"Submitted {len(jobs)} jobs: {', '.join(job.job_id for job in jobs)}.")
        print(f"The log of each run is {folder / 'NAME.log'}; submitit's own are in {folder / 'slurm'}.")
        print("The same command with --watch instead of --launcher=slurm shows how far they are.")
        return 0
    failed = local.train_all(runs, min(_WORKERS.value or local.fitting_workers(), max(len(runs), 1)), console)
    if failed:
        print(f"{len(failed)} of {len(runs)} runs failed: {', '.join(run.name for run in failed)}.")
    left = [run.name for run in runs if run not in failed and state(run.workdir) != "finished"]
    if left:
        print(f"{len(left)} of {len(runs)} runs have not ended: {', '.join(left)}.")
    print(f"The runs are recorded in {folder}")
    return 1 if failed or left else 0


if __name__ == "__main__":
    command.run(main)
