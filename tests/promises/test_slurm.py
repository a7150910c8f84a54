"""Runs and sweeps in a real Slurm, of one node, that these tests start."""

import re
import sys
import time

import pytest

from resnet_jax.rundir import read_metrics
from resnet_jax.safe_files import read_json
from resnet_jax.training import train
from tests import slurm as real
from tests.images import write_folder
from tests.promises.runs import ROOT, SETTINGS, assert_same, command

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.xdist_group("slurm"),
    pytest.mark.skipif(real.missing() is not None, reason=str(real.missing())),
]

# Two runs of `settings`; where a run of seed 0 comes to one of the slow steps, it stays there until a signal comes,
# as at the time limit of its job.
SWEEP = '''"""What does Slurm do to a run?"""

import time

from configs import recipes
from resnet_jax.data import sampling
from resnet_jax.sweeps.grid import axis
from resnet_jax.training import loop

train_to_end, batch_indices = loop.train_to_end, sampling.batch_indices


def slowly(run, stopping):
    def chosen(seed, steps, *sizes):
        while seed == 0 and steps.start in {slow} and not stopping():
            time.sleep(0.05)
        return batch_indices(seed, steps, *sizes)

    sampling.batch_indices = chosen
    return train_to_end(run, stopping)


loop.train_to_end = slowly


def get_config():
    config = recipes.digits(depth=8, residual=True)
    config.update_from_flattened_dict({settings})
    return config


def get_sweep():
    return axis("seed", [0, 1])
'''


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with real.slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


class Sweep:
    """A sweep of two runs, of seeds 0 and 1, and the command that submits it."""

    def __init__(self, commands, slurm, folder, slow=()):
        self.folder = folder
        self._commands, self._slurm, self._file = commands, slurm, folder.with_suffix(".py")
        self._file.write_text(SWEEP.format(settings=SETTINGS, slow=slow))

    def __call__(self, *words):
        """Run the command, which with --launcher=slurm submits the runs; return its output and status."""
        flags = (f"--config={self._file}", f"--folder={self.folder}", *words)
        return self._commands("sweep", *flags, **self._slurm.environment)

    def submit(self, *words, timeout_min=10):
        """Submit the runs and return their jobs.

        A minute is the least time limit. Slurm looks at it every 30 seconds, so the signal comes 25 to 55 seconds after
        the start; importing and compiling take 10 to 20 of these.
        """
        limits = f"--slurm=timeout_min={timeout_min},slurm_signal_delay_s=5"
        done = self("--launcher=slurm", limits, *words)
        assert done.returncode == 0, done.stderr
        first = done.stdout.splitlines()[0]
        return first.partition(": ")[2].removesuffix(".").split(", ")

    def workdir(self, seed):
        return self.folder / f"residual-8-seed{seed}"

    def log(self, seed):
        return self.workdir(seed).with_suffix(".log").read_text()

    def at_step(self, seed, step):
        """Return whether the run of ``seed`` has recorded ``step``."""
        return any(line["step"] >= step for line in read_metrics(self.workdir(seed) / "metrics.jsonl"))


@pytest.fixture
def sweep(commands, slurm, tmp_path):
    return lambda **settings: Sweep(commands, slurm, tmp_path / "runs", **settings)


def wait_until(come, seconds=120):
    """Return when ``come()`` is true; fail if it is not in so many seconds."""
    end = time.monotonic() + seconds
    while not come():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.2)


def assert_ended_alike(config, workdir, other):
    assert read_json(workdir / "summary.json")["status"] == "finished"
    assert_same(config, workdir, other)


@pytest.fixture(scope="module")
def sliced(commands, slurm, tmp_path_factory):
    """Return a sweep whose first run needs five jobs; it is under way while the other tests run."""
    sweep = Sweep(commands, slurm, tmp_path_factory.mktemp("sliced") / "runs", slow=(2, 5, 7, 10))
    sweep.jobs = sweep.submit(timeout_min=1)
    return sweep


def test_a_sweep_is_one_array_job(sliced):
    number = sliced.jobs[0].partition("_")[0]
    assert sliced.jobs == [f"{number}_0", f"{number}_1"]


def test_a_run_that_fails_in_its_job_says_why_where_the_user_looks(slurm, sweep, tmp_path):
    root = write_folder(tmp_path / "images", suffix=".png")
    for file in root.glob("*/*"):
        file.write_bytes(file.read_bytes()[:50])  # Nothing is decoded before a run trains.
    wrong = sweep()
    words = {"name": "folder", "data_dir": root, "image_size": 32, "padding": 0}
    flags = ("--only=seed=0", *(f"--config.data.{name}={value}" for name, value in words.items()))
    [job] = wrong.submit(*flags)
    wait_until(lambda: job not in slurm.jobs())
    done = wrong(*flags, "--dry_run")
    assert done.returncode == 0
    assert "failed" in done.stdout
    sentence = "none of 54 images can be decoded"
    assert f"residual-8-seed0 failed: {sentence}" in done.stdout
    assert f"Its log is {wrong.workdir(0)}.log." in done.stdout


def test_what_slurm_refuses_is_reported_in_one_sentence(sweep):
    done = sweep()("--launcher=slurm", "--slurm=slurm_partition=nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --launcher=slurm with --slurm={'slurm_partition': 'nowhere'} cannot submit")
    assert "invalid partition specified: nowhere" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_job_that_is_requeued_by_hand_resumes_and_one_that_is_cancelled_is_resumed_by_the_same_command(
    slurm, sweep, config, whole
):
    stopped = sweep(slow=(5, 9))
    [job] = stopped.submit("--only=seed=0")
    wait_until(lambda: stopped.at_step(0, 4))
    slurm("scontrol", "requeue", job)
    wait_until(lambda: "resuming after step 6 of 12" in stopped.log(0))
    wait_until(lambda: stopped.at_step(0, 8))
    slurm("scancel", job)
    wait_until(lambda: job not in slurm.jobs())
    assert "preempted at step 10" in stopped("--only=seed=0", "--dry_run").stdout
    [job] = stopped.submit("--only=seed=0")
    wait_until(lambda: job not in slurm.jobs())
    assert_ended_alike(config, stopped.workdir(0), whole)


def test_the_tasks_of_a_step_are_one_run_and_find_each_other_without_flags_beside_another_step(slurm, tmp_path):
    words = [" ".join(map(str, [sys.executable, *command(tmp_path / name)])) for name in ("one", "other")]
    script = " & ".join(f"srun --exact --ntasks=2 {each}" for each in words) + " & wait"
    said = slurm("salloc", "--ntasks=4", "--chdir", ROOT, "sh", "-c", script)
    assert said.count("finished after 12 steps") == 2  # Only the first task of a step prints.
    for name in ("one", "other"):
        [environment] = read_json(tmp_path / name / "environment.json")
        assert (environment["host_count"], environment["device_count"]) == (2, 4)


def test_in_the_shell_of_an_interactive_job_of_two_tasks_a_run_waits_for_no_other(slurm):
    program = (
        "import jax; from resnet_jax import hosts; hosts.join_processes(None, None, None); print(jax.process_count())"
    )
    assert slurm("salloc", "--ntasks=2", "--chdir", ROOT, given=f"{sys.executable} -c '{program}'\n") == "1"


def test_a_job_at_its_time_limit_is_queued_again_as_often_as_it_takes_and_ends_with_the_same_bits(
    slurm, sliced, config, whole, tmp_path
):
    wait_until(lambda: not set(sliced.jobs) & slurm.jobs().keys(), seconds=600)
    [restarts] = re.findall(r"Restarts=(\d+)", slurm("scontrol", "show", "job", sliced.jobs[0]))
    assert int(restarts) > 3
    assert sliced.log(0).count("resuming after step") > 3
    assert_ended_alike(config, sliced.workdir(0), whole)
    config.seed = 1  # The other run of the array has come to its end in its first job.
    assert "resuming" not in sliced.log(1)
    train(config, tmp_path / "other")
    assert_ended_alike(config, sliced.workdir(1), tmp_path / "other")
