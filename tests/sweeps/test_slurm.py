"""Array jobs, on submitit's local executor."""

import pathlib
import signal
import sys
import time

import psutil
import pytest

from configs import recipes
from resnet_jax.errors import UserError
from resnet_jax.sweeps import slurm
from resnet_jax.sweeps.plan import PlannedRun

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def submit(tmp_path):
    """Return a function that submits programs as the runs of a sweep."""

    def submit_programs(*programs):
        runs = [
            PlannedRun(
                f"r{index}",
                {},
                recipes.digits(8, residual=True),
                tmp_path / f"r{index}",
                [sys.executable, "-c", program],
            )
            for index, program in enumerate(programs)
        ]
        return slurm.submit(runs, tmp_path / "slurm", {"timeout_min": 1}, cluster="local")

    return submit_programs


def test_every_run_is_a_job_and_a_failure_is_that_of_its_job_alone(submit, tmp_path):
    good, bad = submit(f"open({str(tmp_path / 'made')!r}, 'w')", "import sys; sys.exit(3)")
    assert good.result() == 0
    assert (tmp_path / "made").exists()
    assert "exit status 3" in str(bad.exception())


def test_a_preempted_job_saves_its_run_and_is_queued_again(submit, tmp_path):
    program = f"""
import pathlib, signal, sys, time
folder = pathlib.Path({str(tmp_path)!r})
if (folder / "saved").exists():
    (folder / "resumed").touch()
    sys.exit(0)
def save(*_):
    (folder / "saved").touch()
    sys.exit(1)
signal.signal(signal.SIGTERM, save)
(folder / "started").touch()
time.sleep(100)
"""
    (job,) = submit(program)
    wait_for(tmp_path / "started")
    (task,) = psutil.Process(int(job.job_id)).children()
    task.send_signal(signal.SIGUSR2)  # As Slurm does before it takes a job's time away.
    assert job.result() == 0
    assert (tmp_path / "resumed").exists()


def wait_for(path: pathlib.Path):
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.1)
    pytest.fail(f"{path} was not made")


def test_without_slurm_the_way_out_is_told(tmp_path):
    with pytest.raises(UserError, match=r"--launcher=slurm with --slurm=\{\} cannot submit: .*slurm"):
        slurm.submit([], tmp_path / "slurm", {})


def test_a_setting_that_slurm_has_not_is_told(tmp_path):
    with pytest.raises(UserError, match=r"--slurm=\{'wrong': 1\} cannot submit"):
        slurm.submit([], tmp_path / "slurm", {"wrong": 1}, cluster="local")
