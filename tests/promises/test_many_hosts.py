"""Several processes, as on several hosts, train one net: real ones on this machine, that talk over its loopback."""

import random
import shutil
import signal
import socket
import time

import numpy as np
import pytest

from resnet_jax.rundir import read_json
from resnet_jax.training import parallel, train
from tests.images import write_folder
from tests.promises.runs import SETTINGS, command, figures, finish, last_state, start, wait_for_line

pytestmark = pytest.mark.xdist_group("many_hosts")  # Each takes both cores of a small machine.


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_all(workdir, processes=2, devices=2, **settings):
    """Start so many processes of so many devices each on the run in ``workdir``."""
    address = f"127.0.0.1:{free_port()}"
    return [
        start(
            command(
                workdir,
                f"--coordinator={address}",
                f"--num_processes={processes}",
                f"--process_id={number}",
                **settings,
            ),
            devices=devices,
            JAX_COORDINATOR_BIND_ADDRESS=address,
        )
        for number in range(processes)
    ]


def start_two_slurm_tasks(workdir, **settings):
    """Start two processes that know each other only by what Slurm tells the tasks of a step."""
    job = str(random.randrange(10**6))
    tasks = {"SLURM_JOB_ID": job, "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
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


@pytest.mark.parametrize("mapper", parallel.MAPPERS)
def test_two_processes_of_two_devices_train_as_one_of_four(tmp_path, mapper):
    settings = {"parallel.mapper": mapper, "data.padding": 1}
    four = start(command(tmp_path / "four", **settings), devices=4)
    assert finish(four)[0] == 0
    two = start_two_slurm_tasks(tmp_path / "two", **settings)
    (status, stdout, stderr), (other_status, other_stdout, other_stderr) = (finish(process) for process in two)
    assert (status, other_status) == (0, 0), stderr + other_stderr
    assert_same_trajectory(tmp_path / "two", tmp_path / "four")
    # The first process alone writes and speaks.
    assert "finished after 12 steps" in stdout
    assert "recorded in" not in other_stdout
    assert "step 12/12" in stderr
    assert "step 12/12" not in other_stderr
    [environment] = read_json(tmp_path / "two" / "environment.json")
    assert (environment["host_count"], environment["device_count"]) == (2, 4)
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 1


def test_with_synchronised_batch_norm_any_split_of_devices_trains_alike_and_checkpoints_move(config, tmp_path):
    """Two processes of two devices are stopped; one of four devices goes on, four of one each from a copy."""
    settings = {"batch_norm.sync": True, "steps": 60}
    config.update_from_flattened_dict(SETTINGS | settings)
    train(config, tmp_path / "eight")
    two = start_all(tmp_path / "two", **settings)
    wait_for_line(two[0], "step 8/")
    two[1].send_signal(signal.SIGTERM)  # One host hears of it; both must stop, at the same step.
    sent = time.monotonic()
    results = [finish(process) for process in two]
    assert time.monotonic() - sent < 30
    assert [status for status, _, _ in results] == [75, 75], results
    stopped = read_json(tmp_path / "two" / "summary.json")
    assert stopped["status"] == "preempted"
    assert 8 <= stopped["steps"] < 60
    shutil.copytree(tmp_path / "two", tmp_path / "copy")
    for folder, processes, devices in (("two", 1, 4), ("copy", 4, 1)):
        results = [finish(process) for process in start_all(tmp_path / folder, processes, devices, **settings)]
        assert [status for status, _, _ in results] == [0] * processes, results
        assert f"resuming after step {stopped['steps']} of 60" in results[0][2]
        assert_same_trajectory(tmp_path / folder, tmp_path / "eight", rtol=0.02)  # Rounding grows over 60 steps.
        assert int(last_state(config, tmp_path / folder).step) == 60  # On the eight devices of this process.


def test_a_checkpoint_of_one_process_is_resumed_by_two(config, tmp_path):
    config.update_from_flattened_dict(SETTINGS | {"batch_norm.sync": True})
    train(config, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    for checkpoint in (tmp_path / "run" / "checkpoints").glob("12"):
        checkpoint.rename(tmp_path / "12")
    before = figures(tmp_path / "run")
    results = [finish(process) for process in start_all(tmp_path / "run", **{"batch_norm.sync": True})]
    assert [status for status, _, _ in results] == [0, 0], results
    assert "resuming after step 10 of 12" in results[0][2]
    losses = ([line["loss"] for line in lines] for lines in (figures(tmp_path / "run"), before))
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_when_a_process_dies_the_other_says_so_and_ends(tmp_path):
    two = start_all(tmp_path / "run", steps=1_000_000, log_every=2)
    wait_for_line(two[0], "step 4/")
    two[1].kill()
    died = time.monotonic()
    status, _, stderr = finish(two[0], timeout=200)
    finish(two[1])
    assert status == 1
    assert time.monotonic() - died < 150
    assert stderr.rstrip().endswith(
        "error: another process of this run has died or failed; start the same command again on every host."
    )


def test_what_one_process_refuses_all_refuse_at_once(config, tmp_path):
    train(config, tmp_path / "run")
    results = [finish(process, timeout=100) for process in start_all(tmp_path / "run", seed=5)]
    assert [status for status, _, _ in results] == [2, 2]
    assert "differing in config.seed (0 there, 5 here)" in results[0][2]
    assert "error: process 0 of this run has failed" in results[1][2]


def test_a_flag_without_the_others_is_refused(tmp_path):
    status, stdout, stderr = finish(start(command(tmp_path / "run", "--coordinator=127.0.0.1:1")))
    assert (status, stdout) == (2, "")
    assert stderr.startswith("error: --coordinator")
    assert stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mapper", parallel.MAPPERS)
def test_two_processes_share_a_stream_as_one(tmp_path, mapper):
    """Each decodes its half of every batch; the examples are those of one process of as many devices."""
    write_folder(tmp_path / "images")
    settings = {
        "data.name": "folder",
        "data.data_dir": tmp_path / "images",
        "data.image_size": 32,
        "data.workers": 1,
        "data.on_bad_image": "skip",
        "parallel.mapper": mapper,
    }
    four = start(command(tmp_path / "four", **settings), devices=4)
    assert finish(four)[0] == 0
    two = start_all(tmp_path / "two", **settings)
    (status, _, stderr), (other_status, _, other_stderr) = (finish(process) for process in two)
    assert (status, other_status) == (0, 0), stderr + other_stderr
    assert_same_trajectory(tmp_path / "two", tmp_path / "four")
    assert read_json(tmp_path / "two" / "summary.json")["skipped_images"] == {"train": 0, "test": 0}
