"""Several processes, as on several hosts, train one net: real ones on this machine, that talk over its loopback."""

import random
import signal

import numpy as np
import pytest

from resnet_jax.safe_files import read_json
from resnet_jax.training import parallel, train
from tests.images import write_folder
from tests.promises.runs import (
    LOST,
    SETTINGS,
    at_step,
    command,
    figures,
    finish,
    start,
    start_all,
    wait_for_line,
    words_of,
)

pytestmark = pytest.mark.xdist_group("many_hosts")  # Each takes both cores of a small machine.


def start_two_slurm_tasks(workdir, **settings):
    """Start two processes that find each other only by the variables that Slurm sets for the tasks of a step."""
    job = str(random.randrange(10**6))
    step = {"ID": "0", "NODELIST": "localhost", "NUM_TASKS": "2"}
    tasks = {"SLURM_JOB_ID": job, "SLURM_NTASKS": "2"} | {f"SLURM_STEP_{name}": value for name, value in step.items()}
    return [
        start(command(workdir, **settings), devices=2, SLURM_PROCID=str(number), SLURM_LOCALID=str(number), **tasks)
        for number in range(2)
    ]


def assert_same_trajectory(workdir, other, rtol=1e-4):
    """The sums over devices may be taken in another order, so rounding may differ."""
    lines, other_lines = figures(workdir), figures(other)
    for name in ("step", "split", "lr"):
        assert [line[name] for line in lines] == [line[name] for line in other_lines]
    losses = [line["loss"] for line in lines], [line["loss"] for line in other_lines]
    np.testing.assert_allclose(*losses, rtol=rtol)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """Return where one process of four devices trains by the first mapper; by the other it computes the same."""
    return tmp_path_factory.mktemp("four")


EACH_MAPPER = pytest.mark.parametrize(
    "mapper", [parallel.MAPPERS[0], *(pytest.param(mapper, marks=pytest.mark.slow) for mapper in parallel.MAPPERS[1:])]
)


@pytest.mark.devices(4)
@EACH_MAPPER
@pytest.mark.slow
def test_two_processes_of_two_devices_train_as_one_of_four(config, four, tmp_path, mapper):
    config.data.padding = 1
    train(config, four / "digits")
    two = start_two_slurm_tasks(tmp_path / "two", **{"parallel.mapper": mapper, "data.padding": 1})
    (status, stdout, stderr), (other_status, other_stdout, other_stderr) = (finish(process) for process in two)
    assert (status, other_status) == (0, 0), stderr + other_stderr
    assert_same_trajectory(tmp_path / "two", four / "digits")
    # Only the first process writes and prints.
    assert "finished after 12 steps" in stdout
    assert "recorded in" not in other_stdout
    assert "step 12/12" in stderr
    assert "step 12/12" not in other_stderr
    [environment] = read_json(tmp_path / "two" / "environment.json")
    assert (environment["host_count"], environment["device_count"]) == (2, 4)
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 1


@pytest.mark.slow
def test_with_synchronised_batch_norm_any_split_of_devices_trains_alike_and_checkpoints_move(
    config, tmp_path, monkeypatch
):
    """Two processes of two devices are stopped; one of two devices continues and is stopped, then two of one each."""
    settings = {"batch_norm.sync": True, "steps": 60}
    config.update_from_flattened_dict(SETTINGS | settings)
    train(config, tmp_path / "whole")
    two = start_all(tmp_path / "two", **settings)
    wait_for_line(two[0], "step 8/")
    two[1].send_signal(signal.SIGTERM)  # One host hears of it; both must stop, at the same step.
    results = [finish(process) for process in two]
    assert [status for status, _, _ in results] == [75, 75], results
    stopped = read_json(tmp_path / "two" / "summary.json")
    assert stopped["status"] == "preempted"
    assert 8 <= stopped["steps"] < 60
    with monkeypatch.context() as patch:
        at_step(patch, stopped["steps"], lambda: signal.raise_signal(signal.SIGTERM))
        summary = train(config, tmp_path / "two")
    assert (summary["status"], summary["steps"]) == ("preempted", stopped["steps"] + 1)
    results = [finish(process) for process in start_all(tmp_path / "two", devices=1, **settings)]
    assert [status for status, _, _ in results] == [0, 0], results
    assert f"resuming after step {summary['steps']} of 60" in results[0][2]
    assert_same_trajectory(tmp_path / "two", tmp_path / "whole", rtol=0.02)  # Rounding grows over 60 steps.


@pytest.mark.slow
def test_when_a_process_dies_the_other_says_so_and_ends(tmp_path):
    two = start_all(tmp_path / "run", steps=1_000_000, log_every=2)
    wait_for_line(two[0], "step 4/")
    two[1].kill()
    status, _, stderr = finish(two[0])
    finish(two[1])
    assert status == 1
    assert stderr.splitlines()[-1] == LOST


@pytest.mark.slow
def test_when_a_process_fails_alone_the_other_ends_at_once(tmp_path):
    folder = write_folder(tmp_path / "images")
    bad = folder / "ant" / "3.jpg"  # One of the two is to decode it.
    bad.write_bytes(bad.read_bytes()[:100])
    settings = {"data.name": "folder", "data.data_dir": str(folder), "data.image_size": 32, "data.workers": 1}
    results = [finish(process, timeout=200) for process in start_all(tmp_path / "run", **settings)]
    assert sorted(status for status, _, _ in results) == [1, 2], results
    for status, _, stderr in results:
        last = stderr.splitlines()[-1]
        assert last == LOST if status == 1 else last.startswith(f"error: {bad} cannot be decoded"), stderr


@pytest.mark.slow
def test_what_one_process_refuses_all_refuse_at_once(whole):
    results = [finish(process) for process in start_all(whole, seed=5)]
    assert [status for status, _, _ in results] == [2, 2]
    assert "differing in config.seed (0 there, 5 here)" in results[0][2]
    assert "error: process 0 of this run has failed" in results[1][2]


@pytest.mark.parametrize(
    "words",
    [
        ["--coordinator=127.0.0.1:1"],
        ["--coordinator=127.0.0.1:1", "--num_processes=2", "--process_id=2"],
        ["--coordinator=here", "--num_processes=2", "--process_id=0"],
    ],
)
def test_flags_that_do_not_name_a_process_are_refused(commands, tmp_path, words):
    done = commands("main", *words_of(tmp_path / "run"), *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --coordinator")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.devices(4)
@EACH_MAPPER
def test_two_processes_share_a_stream_as_one(config, images, four, tmp_path, mapper):
    """Each decodes its half of every batch; the examples are as for one process of as many devices."""
    settings = {
        "data.name": "folder",
        "data.data_dir": str(images),
        "data.image_size": 32,
        "data.workers": 1,
        "data.on_bad_image": "skip",
    }
    config.update_from_flattened_dict(settings)
    train(config, four / "stream")
    two = start_all(tmp_path / "two", **settings, **{"parallel.mapper": mapper})
    (status, _, stderr), (other_status, _, other_stderr) = (finish(process) for process in two)
    assert (status, other_status) == (0, 0), stderr + other_stderr
    assert_same_trajectory(tmp_path / "two", four / "stream")
    assert read_json(tmp_path / "two" / "summary.json")["skipped_images"] == {"train": 0, "test": 0}
