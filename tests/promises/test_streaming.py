"""A streamed run by its command: signals, kills, worker processes and exact resume."""

import os
import signal
import subprocess
import sys

import jax
import numpy as np
import psutil
import pytest

from configs import recipes
from resnet_jax.safe_files import read_json
from resnet_jax.training import train
from resnet_jax.training.record import RunRecord
from tests.images import write_folder
from tests.promises.runs import ROOT, figures, finish, last_state, wait_for_line

pytestmark = pytest.mark.xdist_group("streaming")  # Worker processes take cores.

SETTINGS = {
    "model.family": "cifar",
    "model.depth": 8,
    "model.shortcut": "A",
    "data.image_size": 32,
    "batch_size": 16,
    "steps": 60,
    "log_every": 5,
    "eval_every": 60,
    "eval_batch_size": 16,
    "checkpoint_every": 20,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("images"))


def command(workdir, images, workers, **settings):
    overrides = [f"--config.{name}={value}" for name, value in (SETTINGS | settings).items()]
    return [
        sys.executable,
        "-m",
        "experiments.main",
        "--config=configs/folder_resnet18.py",
        *overrides,
        f"--config.data.data_dir={images}",
        f"--config.data.workers={workers}",
        f"--workdir={workdir}",
    ]


SAMPLE = os.environ.get("IMAGENET_SAMPLE")
needs_sample = pytest.mark.skipif(not SAMPLE, reason="IMAGENET_SAMPLE names no folder with 100 ImageNet images")
# Enough to see that all works together, in seconds.
SHORT = (
    "--config.data.image_size=64",
    "--config.data.workers=2",
    "--config.batch_size=8",
    "--config.steps=3",
    "--config.log_every=1",
    "--config.eval_batch_size=10",
)


@pytest.mark.slow
@needs_sample
def test_real_images_are_trained_on_and_evaluated(commands, tmp_path):
    folder = f"--config.data.data_dir={SAMPLE}"
    done = commands("main", "--config=configs/folder_resnet18.py", folder, *SHORT, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    summary = read_json(tmp_path / "run" / "summary.json")
    assert summary["status"] == "finished"
    assert summary["skipped_images"] == {"train": 0, "test": 0}
    losses = [line["loss"] for line in figures(tmp_path / "run") if line["split"] == "train"]
    assert len(losses) == 3
    assert all(0.5 < loss < 20 for loss in losses)  # Of 100 classes; the logarithm of 100 is 4.6.
    done = commands("evaluate", f"--run={tmp_path / 'run'}", "--protocol=ten_crop", f"--output={tmp_path / 'o.json'}")
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "o.json")["images"] == 10


@pytest.mark.slow
@needs_sample
def test_the_sweep_of_table_2_trains_on_real_images(commands, tmp_path):
    sweep = ("--config=configs/sweeps/imagenet_18_34.py", f"--folder={tmp_path / 'sweep'}")
    folder = ("--config.data.name=folder", f"--config.data.data_dir={SAMPLE}")
    done = commands("sweep", *sweep, *folder, *SHORT, "--config.steps=1", "--only=model.depth=18")
    assert done.returncode == 0, done.stdout + done.stderr
    for kind in ("plain", "residual"):
        assert read_json(tmp_path / "sweep" / f"{kind}-18" / "summary.json")["status"] == "finished"


def start(*arguments, **settings):
    """Start the command as a shell would, in a process group of its own."""
    return subprocess.Popen(
        command(*arguments, **settings),
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def workers_of(process):
    return [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]


def assert_gone(workers):
    _, alive = psutil.wait_procs(workers, timeout=300)
    assert not [worker for worker in alive if worker.status() != psutil.STATUS_ZOMBIE]


def config_of(images, workers=2):
    config = recipes.folder(depth=8, residual=True)
    config.update_from_flattened_dict(SETTINGS | {"data.data_dir": str(images), "data.workers": workers})
    return config


def state_of(workdir, images):
    return last_state(config_of(images), workdir, classes=3, image_shape=(32, 32, 3))


@pytest.fixture(scope="module")
def undisturbed(images, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"
    train(config_of(images), workdir)
    return workdir


@pytest.mark.slow
def test_after_ctrl_c_and_with_other_workers_a_run_ends_in_the_same_bits(undisturbed, images, tmp_path, monkeypatch):
    """The signal goes to the whole process group, as from a terminal."""
    process = start(tmp_path / "run", images, 2)
    wait_for_line(process, "step 10/60")
    workers = workers_of(process)
    assert len(workers) == 2
    os.killpg(process.pid, signal.SIGINT)
    status, stdout, stderr = finish(process)
    assert status == 75, stderr
    assert "The same command resumes it." in stdout
    assert "Traceback" not in stderr
    assert_gone(workers)

    write = RunRecord.write

    def write_and_stop(self, step, split, **scalars):
        write(self, step, split, **scalars)
        if step == 40:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "write", write_and_stop)
        assert train(config_of(images, workers=0), tmp_path / "run")["status"] == "preempted"
    status, _, stderr = finish(start(tmp_path / "run", images, 3))
    assert status == 0, stderr
    assert "leaked" not in stderr
    assert "Traceback" not in stderr
    assert figures(tmp_path / "run") == figures(undisturbed)
    jax.tree.map(np.testing.assert_array_equal, state_of(tmp_path / "run", images), state_of(undisturbed, images))


@pytest.mark.slow
def test_if_the_run_is_killed_its_workers_end(images, tmp_path):
    process = start(tmp_path / "run", images, 2, steps=10**6)
    wait_for_line(process, "step 5/")
    workers = workers_of(process)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    assert_gone(workers)


@pytest.mark.slow
def test_if_a_worker_is_killed_the_run_says_so_and_resumes(undisturbed, images, tmp_path):
    process = start(tmp_path / "run", images, 2)
    wait_for_line(process, "step 25/60")
    workers = workers_of(process)
    workers[0].kill()
    status, _, stderr = finish(process)
    assert status == 2
    [line] = [line for line in stderr.splitlines() if line.startswith("error:")]
    assert "config.data.workers" in line
    assert_gone(workers)
    assert train(config_of(images), tmp_path / "run")["status"] == "finished"
    assert figures(tmp_path / "run") == figures(undisturbed)
