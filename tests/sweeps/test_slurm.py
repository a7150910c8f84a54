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


def test_every_run_is_a_job_and_a_failure_fails_only_its_job(submit, tmp_path):
    good, bad = submit(f"open({str(tmp_path / 'made')!r}, 'w')", "import sys; sys.exit(3)")
    assert good.result() == 0
    assert (tmp_path / "made").exists()
    assert "exit status 3" in str(bad.exception())
    queued, error = (tmp_path / "r1.log").read_text().splitlines()
    assert queued == f"queued as job {bad.job_id}"
    assert error.startswith("error: exit status 3 of ")


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


@pytest.mark.slow
def test_a_job_that_is_preempted_twice_without_a_checkpoint_fails(submit, tmp_path):
    program = f"""
import pathlib, time
folder = pathlib.Path({str(tmp_path)!r})
(folder / f"started{{len(list(folder.glob('started*')))}}").touch()
time.sleep(100)
"""
    (job,) = submit(program)
    for start in range(2):
        wait_for(tmp_path / f"started{start}")
        (task,) = psutil.Process(int(job.job_id)).children()
        task.send_signal(signal.SIGUSR2)
    message = "r0 has no new checkpoint after 2 starts of its job"
    assert message in str(job.exception())
    assert message in (tmp_path / "r0.log").read_text().splitlines()[-1]


def saved(workdir, step):
    (workdir / "checkpoints" / str(step)).mkdir(parents=True)


def started(training, workdir):
    """Start the job of a run that ends by itself, having saved nothing."""
    training([sys.executable, "-c", ""], workdir)
    return training


def test_a_job_is_queued_again_as_long_as_there_are_new_checkpoints(tmp_path):
    training = slurm.Training()
    for step in range(10, 100, 10):
        started(training, tmp_path)
        saved(tmp_path, step)
        submission = training.checkpoint(["word"], tmp_path)
        assert submission.args == (["word"], tmp_path)
        training = submission.function
        assert training.stalled == 0


def test_a_job_that_saves_nothing_in_two_starts_in_a_row_fails(tmp_path):
    first = started(slurm.Training(), tmp_path).checkpoint([], tmp_path).function
    second = started(first, tmp_path)
    saved(tmp_path, 10)
    third = started(second.checkpoint([], tmp_path).function, tmp_path)  # The checkpoint has reset the count.
    fourth = started(third.checkpoint([], tmp_path).function, tmp_path)
    with pytest.raises(RuntimeError, match=r"has no new checkpoint after 2 starts of its job, so it is not queued"):
        fourth.checkpoint([], tmp_path)


@pytest.mark.parametrize(("settings", "timeouts"), [({}, slurm.MAX_NUM_TIMEOUT), ({"slurm_max_num_timeout": 5}, 5)])
def test_the_number_of_timeouts_is_limited_only_if_asked(tmp_path, monkeypatch, settings, timeouts):
    submitted = []

    class Executor:
        def __init__(self, folder, cluster, slurm_max_num_timeout):
            submitted.append(slurm_max_num_timeout)

        def update_parameters(self, **parameters):
            submitted.append(parameters)

        def map_array(self, *arguments):
            return []

    monkeypatch.setattr(slurm.submitit, "AutoExecutor", Executor)
    slurm.submit([], tmp_path, {"slurm_partition": "gpu"} | settings)
    assert submitted == [timeouts, {"slurm_partition": "gpu"}]


def wait_for(path: pathlib.Path):
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.1)
    pytest.fail(f"{path} was not made")


def test_without_slurm_the_way_out_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"--launcher=slurm with --slurm=\{\} cannot submit: .*slurm"):
        slurm.submit([], tmp_path / "slurm", {})


def test_an_unknown_setting_of_slurm_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"--slurm=\{'wrong': 1\} cannot submit"):
        slurm.submit([], tmp_path / "slurm", {"wrong": 1}, cluster="local")
