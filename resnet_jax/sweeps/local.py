"""Train the runs of a sweep on this machine, several at a time."""

import contextlib
import functools
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn

from resnet_jax.errors import UserError
from resnet_jax.rundir import cut_off, newest_metrics, read_config, read_summary
from resnet_jax.safe_files import open_own, within
from resnet_jax.stopping import EXIT_PREEMPTED
from resnet_jax.sweeps.plan import EXPLAINED, PlannedRun, failure, is_in_use, last_error, log_of, record_failure
from resnet_jax.terminal import PlainColumn

SECONDS_BETWEEN_LOOKS = 0.5
GIB_PER_WORKER = 3


class Worker(NamedTuple):
    """A run that is being trained in a process of its own."""

    run: PlannedRun
    process: subprocess.Popen[bytes]
    cores: list[int]
    task: TaskID


@functools.cache
def devices() -> tuple[str, int]:
    """Return the backend that runs on this machine use and their number of devices; this process may use another."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return "cpu", jax.device_count("cpu")
    question = [sys.executable, "-c", "import jax; print(jax.default_backend(), jax.device_count())"]
    answer = subprocess.run(question, capture_output=True, text=True, check=False).stdout.split()
    return (answer[-2], int(answer[-1])) if len(answer) > 1 and answer[-1].isdecimal() else ("cpu", 1)


def fitting_workers() -> int:
    """Return the number of runs that this machine should train at a time.

    A run uses all accelerators of its host, so with accelerators it is one. On CPUs it is one per core if memory
    suffices, which makes the most steps in an hour (``benchmarks/workers.py``).
    """
    backend, _ = devices()
    if backend != "cpu":
        return 1
    memory = psutil.virtual_memory().available // (GIB_PER_WORKER * 2**30)
    return max(1, min(len(available_cores()), memory))


def available_cores() -> list[int]:
    """Return the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def train_all(runs: list[PlannedRun], workers: int, console: Console) -> list[PlannedRun]:
    """Train ``runs``, ``workers`` at a time, show their progress, and return those that failed.

    A failed run does not stop the others. Ctrl-C, SIGTERM and the end of the terminal stop all, each after saving a
    checkpoint, and raise a KeyboardInterrupt. The output of a run is added to a log file next to its run directory; if
    the run failed, the last line begins with "error: ". A run that a signal has stopped, or that another process
    trains, does not count as failed.
    """
    cores = available_cores()
    environment = dict(os.environ)
    if workers > 1:  # Otherwise the first run takes three quarters of the memory of a shared GPU.
        environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    free = [cores[index::workers] or cores for index in range(workers)]
    waiting, failed = list(runs), []
    running: list[Worker] = []
    name, description = (PlainColumn(f"{{task.{each}}}") for each in ("fields[name]", "description"))
    columns = (name, BarColumn(), TaskProgressColumn(), description)
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
    with signals_as_interrupt(), progress:
        overall = progress.add_task("", name="runs", total=len(runs))
        try:
            while waiting or running:
                while waiting and free:
                    run = waiting.pop(0)
                    task = progress.add_task("starting", name=run.name, total=run.config.steps)
                    running.append(start(run, free.pop(), task, environment))
                    if not console.is_terminal:
                        console.print(f"{run.name}: training")
                time.sleep(SECONDS_BETWEEN_LOOKS)
                for worker in list(running):
                    show(progress, worker)
                    if worker.process.poll() is None:
                        continue
                    running.remove(worker)
                    free.append(worker.cores)
                    progress.remove_task(worker.task)
                    progress.advance(overall)
                    console.print(outcome(worker), highlight=False)
                    if worker.process.returncode not in (0, EXIT_PREEMPTED) and not is_left(worker):
                        failed.append(worker.run)
                        explain(worker)
        finally:
            for worker in running:
                worker.process.terminate()  # It saves a checkpoint and exits.
            for worker in running:
                worker.process.wait()
    return failed


@contextlib.contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """Make SIGTERM, and SIGHUP unless it is ignored, raise a KeyboardInterrupt, so that they stop the workers too."""
    numbers = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) != signal.SIG_IGN]
    previous = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def start(run: PlannedRun, cores: list[int], task: TaskID, environment: dict[str, str]) -> Worker:
    """Start training ``run`` on ``cores`` with the variables of ``environment``.

    Raises:
      UserError: the sweep's folder cannot be written.
    """
    try:
        run.workdir.parent.mkdir(parents=True, exist_ok=True)
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line_break = "\n" * cut_off(log_of(run.workdir))
        with open_own(log_of(run.workdir), "ab") as log:
            log.write(f"{line_break}started {started}: {shlex.join(run.command)}\n".encode())
            log.flush()
            process = subprocess.Popen(run.command, stdout=log, stderr=log, env=environment)
    except OSError as error:
        raise UserError(
            f"--folder={run.workdir.parent} cannot be written ({error.strerror}); choose another."
        ) from error
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, cores)
    return Worker(run, process, cores, task)


def show(progress: Progress, worker: Worker) -> None:
    """Show the step of ``worker`` and its running training error."""
    try:
        metrics, _ = newest_metrics(worker.run.workdir / "metrics.jsonl", has_training_error)
        recorded = read_config(worker.run.workdir)
    except UserError:  # The run itself reports the damaged file.
        return
    lines = [line for line in metrics if line["split"] == "train"]
    if lines and recorded:
        step, steps = lines[-1]["step"], recorded.config.steps  # It may depend on the number of devices.
        description = f"step {step:,}/{steps:,}, training error {lines[-1]['error']:.1%}"
        progress.update(worker.task, completed=step, total=steps, description=description)


def has_training_error(lines: list[dict[str, Any]]) -> bool:
    """Return whether one of ``lines`` of metrics is of the running training error."""
    return any(line["split"] == "train" for line in lines)


def outcome(worker: Worker) -> str:
    """Return a line on how the run of ``worker`` ended; if it failed, with the end of its log."""
    run, status = worker.run, worker.process.returncode
    try:
        summary = read_summary(run.workdir)
    except UserError as error:
        return f"{run.name}: {error}"
    if is_left(worker):
        return f"{run.name}: another process trains it; {last_error(run.workdir)}"
    if status == 0 and summary:
        final = summary["final"]
        errors = f"training error {final['train_clean']['error']:.2%}, test error {final['test']['error']:.2%}"
        return f"{run.name}: {errors}, {summary['seconds']:,.0f} s"
    if status == EXIT_PREEMPTED or (summary and summary["status"] == "preempted"):
        where = f"after step {summary['steps']:,}" if summary else "before training"
        return f"{run.name}: stopped by a signal {where}; the same command resumes it"
    reason = killed(status) or f"failed with exit status {status}"
    log = within(log_of(run.workdir)).read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    return "\n".join(
        [f"{run.name}: {reason}; the last lines of {log_of(run.workdir)}:", *(f"    {line}" for line in log[-5:])]
    )


def is_left(worker: Worker) -> bool:
    """Return whether the process of ``worker`` was refused because another one trains the run."""
    return worker.process.returncode == 2 and is_in_use(last_error(worker.run.workdir))


def explain(worker: Worker) -> None:
    """End the log of the failed run of ``worker`` with the reason, unless it is already there."""
    status, workdir = worker.process.returncode, worker.run.workdir
    if status not in EXPLAINED and failure(workdir) is None:
        record_failure(workdir, killed(status) or f"exit status {status} of {' '.join(worker.run.command)}")


def killed(status: int) -> str | None:
    """Return "killed by signal N" if a signal killed the process of exit status ``status``, else None."""
    return f"killed by signal {-status}" if status < 0 else None
