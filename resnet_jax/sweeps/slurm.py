"""Training the runs of a sweep as an array job of a Slurm cluster, by submitit."""

import contextlib
import os
import pathlib
import subprocess
from typing import Any

import submitit

from resnet_jax.errors import UserError
from resnet_jax.sweeps.plan import PlannedRun


class Training:
    """The job of one run; preempted or out of time, it saves a checkpoint and is queued again."""

    _process: subprocess.Popen[bytes] | None = None

    def __call__(self, command: list[str]) -> int:
        """Train by ``command``, and return exit status 0; raises a RuntimeError after any other."""
        self._process = subprocess.Popen(command)
        status = self._process.wait()
        if status:
            raise RuntimeError(f"exit status {status} of {' '.join(command)}")
        return status

    def checkpoint(self, command: list[str]) -> submitit.helpers.DelayedSubmission:
        """Stop training behind a checkpoint and return the job that resumes it; submitit calls this."""
        if self._process is not None:
            self._process.terminate()
            # Not by its wait(): this runs as a signal handler within that, which holds a lock.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._process.pid, 0)
        return submitit.helpers.DelayedSubmission(Training(), command)


def submit(
    runs: list[PlannedRun], folder: pathlib.Path, settings: dict[str, Any], cluster: str = "slurm"
) -> list[submitit.Job[int]]:
    """Submit ``runs`` as one array job and return their jobs, without waiting for them.

    Args:
      runs: to be trained.
      folder: takes submitit's files and the logs.
      settings: of ``submitit.AutoExecutor.update_parameters``, as ``{"slurm_partition": "gpu", "timeout_min": 600}``.
      cluster: "slurm", or "local" for processes on this machine, which serves tests.

    Raises:
      UserError: there is no Slurm here, or it has no such setting.
    """
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(**settings)
    except (RuntimeError, NameError, ValueError, TypeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--launcher=slurm with --slurm={settings} cannot submit: {reason}.") from error
    return executor.map_array(Training(), [run.command for run in runs])
