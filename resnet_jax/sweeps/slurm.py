"""Training the runs of a sweep as an array job of a Slurm cluster, by submitit.

A job that is preempted or runs out of time saves a checkpoint and is queued again, as often as it takes: a run of days
goes through slices of hours. It fails only when two starts in a row have saved no new checkpoint, because then a third
would not either. To limit the number of timeouts as well, set ``slurm_max_num_timeout``.
"""

import contextlib
import os
import pathlib
import subprocess
from typing import Any

import submitit

from resnet_jax.errors import UserError
from resnet_jax.rundir import saved_step
from resnet_jax.sweeps.plan import PlannedRun

# Starts in a row without a new checkpoint after which a job is not queued again.
STARTS_WITHOUT_PROGRESS = 2
# submitit's own default of 3 would end every run that takes longer than four time limits.
MAX_NUM_TIMEOUT = 1_000_000


class Training:
    """The job of one run; submitit pickles it when it queues the job again.

    Attributes:
      stalled: starts in a row, up to the last, that have saved no new checkpoint.
    """

    _process: subprocess.Popen[bytes] | None = None
    _first_step = 0

    def __init__(self, stalled: int = 0) -> None:
        self.stalled = stalled

    def __call__(self, command: list[str], workdir: pathlib.Path) -> int:
        """Train by ``command``, which writes to ``workdir``, and return exit status 0.

        Raises:
          RuntimeError: the exit status is another.
        """
        self._first_step = saved_step(workdir)
        self._process = subprocess.Popen(command)
        status = self._process.wait()
        if status:
            raise RuntimeError(f"exit status {status} of {' '.join(command)}")
        return status

    def checkpoint(self, command: list[str], workdir: pathlib.Path) -> submitit.helpers.DelayedSubmission:
        """Stop training after it has saved a checkpoint, and return the job that resumes it; submitit calls this.

        Raises:
          RuntimeError: this start and the one before have made no progress.
        """
        if self._process is not None:
            self._process.terminate()
            # Not wait(): this method runs as a signal handler within the wait() above, which holds a lock.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._process.pid, 0)
        stalled = 0 if saved_step(workdir) > self._first_step else self.stalled + 1
        if stalled >= STARTS_WITHOUT_PROGRESS:
            raise RuntimeError(
                f"{workdir} has no new checkpoint after {stalled} starts of its job, so it is not queued again; "
                "give jobs more time (--slurm=timeout_min=MINUTES) or look for the reason in their logs."
            )
        return submitit.helpers.DelayedSubmission(Training(stalled), command, workdir)


def submit(
    runs: list[PlannedRun], folder: pathlib.Path, settings: dict[str, Any], cluster: str = "slurm"
) -> list[submitit.Job[int]]:
    """Submit ``runs`` as one array job and return their jobs, without waiting for them.

    Args:
      runs: to be trained.
      folder: for submitit's files and the logs.
      settings: of submitit's ``AutoExecutor.update_parameters``, for example ``{"slurm_partition": "gpu",
        "timeout_min": 600}``, and ``slurm_max_num_timeout``, after how many timeouts a job is not queued again.
      cluster: "slurm", or "local" for processes on this machine, for tests.

    Raises:
      UserError: there is no Slurm here, or it has no such setting.
    """
    parameters = dict(settings)
    max_num_timeout = parameters.pop("slurm_max_num_timeout", MAX_NUM_TIMEOUT)
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster, slurm_max_num_timeout=max_num_timeout)
        executor.update_parameters(**parameters)
    except (RuntimeError, NameError, ValueError, TypeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--launcher=slurm with --slurm={settings} cannot submit: {reason}.") from error
    return executor.map_array(Training(), [run.command for run in runs], [run.workdir for run in runs])
