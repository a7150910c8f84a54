"""A full or read-only disk, damaged files and a second process lose nothing that was recorded."""

import json
import re
import shutil
import signal
import subprocess

import pytest

from resnet_jax.safe_files import read_json
from resnet_jax.training import train
from tests.promises.runs import command, figures, finish, start, wait_for_line, words_of


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def small_disk(tmp_path):
    """Return a file system of 1 MiB, and what remounts it with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        return subprocess.run(words, capture_output=True, check=False).returncode

    if mount("size=1m"):
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder, lambda options: mount(f"remount,{options}")
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_with_room_the_same_command_ends_as_if_there_had_been_room(
    commands, config, whole, small_disk
):
    folder, remount = small_disk
    done = commands("main", *words_of(folder / "run"))
    assert done.returncode == 2, done.stderr
    # Not always on a line of its own: TensorStore's threads sometimes complain at the same time.
    assert done.stderr.count("error: ") == 1, done.stderr
    assert f"error: {folder}/run" in done.stderr
    assert "(No space left on device)" in done.stderr
    assert done.stdout == ""
    assert not (folder / "run" / "summary.json").exists()
    assert remount("size=50m") == 0
    assert train(config, folder / "run")["status"] == "finished"
    assert figures(folder / "run") == figures(whole)


LIMITED = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
runpy.run_module("experiments.main", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("size", [1_000, 100_000])
@pytest.mark.usefixtures("whole")  # Its programs are compiled, so that none is written.
def test_a_limit_on_the_size_of_files_gives_one_message(commands, tmp_path, size):
    """As by ``ulimit -f``: the smaller one stops at the first record, the other at a checkpoint."""
    done = commands("main", *words_of(tmp_path / "run"), program=LIMITED.format(size=size))
    assert done.returncode == 2, done.stderr
    said = [line for line in done.stderr.splitlines() if not re.match(r"I\d{4} ", line)]
    assert len(said) == 1, done.stderr
    assert re.match(rf"error: {tmp_path}/run\S* cannot be written \(File too large\); correct that and", said[0])


def test_a_read_only_workdir_is_reported_and_untouched(commands, whole, small_disk):
    folder, remount = small_disk
    assert remount("size=50m") == 0
    shutil.copytree(whole, folder / "run")
    (folder / "run" / "summary.json").unlink()  # As if it were not over.
    before = contents(folder)
    assert remount("ro") == 0
    done = commands("main", *words_of(folder / "run"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: --workdir={folder}/run cannot be written")
    assert done.stderr.count("\n") == 1
    assert contents(folder) == before


def test_a_damaged_newest_checkpoint_is_reported_and_the_one_before_it_leads_to_the_same_end(commands, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    for path in (tmp_path / "run" / "checkpoints" / "12").rglob("d/*"):
        damaged = bytearray(path.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        path.write_bytes(damaged)
    done = commands("main", *words_of(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert "checkpoint 12 is removed" in done.stderr
    assert "resuming after step 10 of 12" in done.stderr
    assert figures(tmp_path / "run") == figures(whole)


def test_a_half_written_line_of_metrics_is_reported_and_repaired(config, whole, tmp_path, caplog):
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "spl')
    train(config, tmp_path / "run")
    assert "the last line of" in caplog.text
    assert "metrics.jsonl is incomplete and is dropped" in caplog.text
    assert figures(tmp_path / "run") == figures(whole)
    assert (tmp_path / "run" / "metrics.jsonl").read_text().endswith("}\n")


@pytest.mark.slow
def test_a_second_process_is_refused_while_the_first_runs_and_accepted_when_it_was_killed(tmp_path):
    settings = {"steps": 1_000_000, "log_every": 2}
    with start(command(tmp_path / "run", **settings)) as first:
        wait_for_line(first, "step 4/")
        status, _, stderr = finish(start(command(tmp_path / "run", **settings)))
        assert status == 2
        assert f"error: --workdir={tmp_path}/run is in use by process {first.pid} on " in stderr
        assert "wait until it ends or give another --workdir" in stderr
        assert first.poll() is None
        wait_for_line(first, "step ")
        first.kill()
    assert (tmp_path / "run" / "lock").exists()
    with start(command(tmp_path / "run", **settings)) as third:
        wait_for_line(third, "resuming after step")
        with start(command(tmp_path / "run", **settings)) as fourth:
            status, _, stderr = finish(fourth)
        assert (status, "is in use by process" in stderr) == (2, True)
        third.send_signal(signal.SIGTERM)
        assert finish(third)[0] == 75
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert read_json(tmp_path / "run" / "summary.json")["status"] == "preempted"
