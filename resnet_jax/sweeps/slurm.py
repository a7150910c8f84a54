"""Training the runs of a sweep as an array job of a Slurm cluster, by submitit.

A job that is preempted or runs out of time saves a checkpoint and is queued again, as often as it takes: a run of days
goes through slices of hours. It fails only when two starts in a row have saved no new checkpoint, because then a third
would not either. To limit the number of timeouts as well, set ``slurm_max_num_timeout``.

The log of a run, beside its run directory, has the output of all its jobs. If the run failed, its last line begins with
"error: ".
"""

import contextlib
import io
import os
import pathlib
import subprocess
from typing import Any, NoReturn

import submitit

from resnet_jax.errors import UserError
from resnet_jax.rundir import saved_step
from resnet_jax.safe_files import open_own
from resnet_jax.sweeps.plan import EXPLAINED, PlannedRun, log_of, record_failure

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
        with open_own(log_of(workdir), "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        status = self._process.wait()
        if status in EXPLAINED:
            raise RuntimeError(f"exit status {status}; see {log_of(workdir)}")
        if status:
            fail(workdir, f"exit status {status} of {' '.join(command)}")
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
            fail(
                workdir,
                f"{workdir} has no new checkpoint after {stalled} starts of its job, so it is not queued again; "
                "give jobs more time (--slurm=timeout_min=MINUTES) or look for the reason in this log.",
            )
        return submitit.helpers.DelayedSubmission(Training(stalled), command, workdir)


def fail(workdir: pathlib.Path, sentence: str) -> NoReturn:
    """End the log of the run in ``workdir`` with ``sentence``, and raise it as a RuntimeError."""
    record_failure(workdir, sentence)
    raise RuntimeError(sentence)


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
      UserError: there is no Slurm here, it has no such setting, or it refuses the job.
    """
    parameters = dict(settings)
    max_num_timeout = parameters.pop("slurm_max_num_timeout", MAX_NUM_TIMEOUT)
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster, slurm_max_num_timeout=max_num_timeout)
        executor.update_parameters(**parameters)
        with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what sbatch says, which is in the error too.
            jobs = executor.map_array(Training(), [run.command for run in runs], [run.workdir for run in runs])
    except (RuntimeError, NameError, ValueError, TypeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--launcher=slurm with --slurm={settings} cannot submit: {reason}.") from error
    for run, job in zip(runs, jobs, strict=True):
        with open_own(log_of(run.workdir), "a") as log:
            log.write(f"queued as job {job.job_id}\n")  # Also says that an error above belongs to an earlier job.
    return jobs
