"""Show the degradation problem on the embedded digits, in about two minutes on two cores.

    python -m experiments.demo

Trains plain-20, plain-56, residual-20 and residual-56, as configs/digits_*.py say, several at a time on shares of the
cores, and draws their training curves. The same command continues where it was interrupted.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import rich
from absl import flags
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Table

from experiments import command
from resnet_jax.analysis import Run, draw_curves, read_run
from resnet_jax.training.progress import console

_FOLDER = flags.DEFINE_string("folder", "runs/demo", "Where the run directories and the figure go.")

# Net and config; the longest first, so that no core idles at the end.
CONFIGS = {
    "residual-56": "configs/digits_resnet56.py",
    "plain-56": "configs/digits_plain56.py",
    "residual-20": "configs/digits_resnet20.py",
    "plain-20": "configs/digits_plain20.py",
}
SECONDS_BETWEEN_LOOKS = 0.5


class Training(NamedTuple):
    """A net being trained in a process of its own."""

    net: str
    process: subprocess.Popen[bytes]
    cores: list[int]
    task: TaskID


def start(net: str, folder: pathlib.Path, cores: list[int]) -> subprocess.Popen[bytes]:
    """Start to train ``net`` in ``folder / net`` on ``cores``, all that it says going to ``folder / net.log``."""
    words = [sys.executable, "-m", "experiments.main", f"--config={CONFIGS[net]}", f"--workdir={folder / net}"]
    # The nets are so small that an accelerator would gain nothing, and several processes would fight for it.
    with (folder / f"{net}.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env={"JAX_PLATFORMS": "cpu"} | os.environ)
    if hasattr(os, "sched_setaffinity"):  # A core each gives more than all cores shared.
        os.sched_setaffinity(process.pid, cores)
    return process


def shares_of_cores() -> list[list[int]]:
    """Return the cores that each of the trainings at one time gets."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    count = min(len(CONFIGS), len(cores))
    return [cores[index::count] for index in range(count)]


def train_all(folder: pathlib.Path) -> Iterator[tuple[str, int]]:
    """Train all nets and yield each as it ends, with the exit status of its process; show how far they are."""
    waiting, free = list(CONFIGS), shares_of_cores()
    running: list[Training] = []
    columns = (TextColumn("{task.fields[net]:11}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks = {net: progress.add_task("waiting", net=net, total=None, start=False) for net in CONFIGS}
        try:
            while waiting or running:
                while waiting and free:
                    net, cores = waiting.pop(0), free.pop()
                    running.append(Training(net, start(net, folder, cores), cores, tasks[net]))
                    progress.update(tasks[net], description="starting")
                time.sleep(SECONDS_BETWEEN_LOOKS)
                for training in list(running):
                    show(progress, training.task, folder / training.net)
                    status = training.process.poll()
                    if status is not None:
                        running.remove(training)
                        free.append(training.cores)
                        yield training.net, status
        finally:
            for training in running:
                training.process.terminate()  # It saves a checkpoint and ends.
            for training in running:
                training.process.wait()


def show(progress: Progress, task: TaskID, folder: pathlib.Path) -> None:
    """Show how far the run in ``folder`` is and its running training error."""
    if (folder / "config.json").exists():
        run = read_run(folder)
        steps, errors = run.curve("train")
        if len(steps):
            total = run.config["steps"]
            description = f"step {steps[-1]}/{total}, training error {errors[-1]:.1%}"
            progress.update(task, completed=steps[-1], total=total, description=description)


def result_table(runs: list[Run]) -> Table:
    """Return parameters, final errors and time of finished ``runs``."""
    table = Table(title="Errors after the last step on all training and test examples")
    for column in ("net", "parameters", "training error", "test error", "seconds"):
        table.add_column(column, justify="left" if column == "net" else "right")
    for run in sorted(runs, key=lambda run: (run.kind, run.depth)):
        summary = run.summary or {}
        errors = [f"{summary['final'][split]['error']:.2%}" for split in ("train_clean", "test")]
        table.add_row(run.net, f"{summary['parameters']:,}", *errors, f"{summary['seconds']:.0f}")
    return table


def main() -> int:
    """Train the nets, draw their curves and print their errors; return the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = pathlib.Path(_FOLDER.value)
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    console.print(f"Training {', '.join(reversed(CONFIGS))} on {sum(map(len, shares_of_cores()))} cores.")
    for net, status in train_all(folder):
        if status:
            failed.append(net)
            log = (folder / f"{net}.log").read_text().rstrip().splitlines()
            console.print(f"{net} was not trained; the end of {folder / net}.log:", *log[-5:], sep="\n")
        elif not console.is_terminal:
            console.print(f"{net} is trained.")
    if failed:
        return 1
    runs = [read_run(folder / net) for net in CONFIGS]
    draw_curves(runs).savefig(folder / "curves.png", dpi=200)
    rich.print(result_table(runs))
    print(f"Training curves: {folder / 'curves.png'}")
    print(f"Run directories: {folder}/{{{','.join(CONFIGS)}}}")
    return 0


if __name__ == "__main__":
    command.run(main)
