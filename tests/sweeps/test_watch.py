"""How far runs are, as their run directories say."""

import json
import os

import pytest

from resnet_jax.sweeps import watch
from resnet_jax.sweeps.plan import log_of
from resnet_jax.sweeps.watch import Row, row, seconds_left
from tests.analysis.synthetic import write_run

NOW = 1_800_000_000.0


def write_training(workdir, seconds=(10.0, 20.0, 40.0), written=NOW - 1, **fields):
    """Write a run of 300 steps, ``written`` last then, with records after 100, 101, ... steps at ``seconds``."""
    write_run(workdir, status=None, **fields)
    lines = [
        {"step": 100 + index, "split": "train", "error": 0.5, "images_per_second": 7.0, "seconds": time}
        for index, time in enumerate(seconds)
    ]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    os.utime(workdir / "metrics.jsonl", (written, written))
    return workdir


def test_each_state_of_a_run_is_told_by_its_files(tmp_path):
    for status in ("finished", "diverged", "preempted"):
        write_run(tmp_path / status, error=0.3, status=status)
    write_run(tmp_path / "failed", error=0.3, status=None)
    log_of(tmp_path / "failed").write_text("error: the disk is full.\n")
    write_training(tmp_path / "training")
    write_training(tmp_path / "unfinished", written=NOW - 100_000)
    names = ("finished", "diverged", "preempted", "failed", "training", "unfinished", "not started")
    rows = {name: row(tmp_path / name, NOW) for name in names}
    assert {name: each.state for name, each in rows.items()} == {name: name for name in names}
    assert rows["finished"] == Row("finished", "finished", 300, 300, pytest.approx(0.3), pytest.approx(0.31))
    # These have two of three records.
    for name in ("diverged", "preempted", "failed"):
        assert rows[name] == Row(name, name, 200, 300, pytest.approx(0.5), pytest.approx(0.9 - 0.59 * 2 / 3))
    assert rows["not started"] == Row("not started", "not started")
    assert rows["unfinished"] == Row("unfinished", "unfinished", 102, 300, 0.5)


def test_time_left_is_by_the_seconds_between_the_newest_records(tmp_path):
    # Two steps in the 30 s from the first record to the last, so 198 steps more take 2970 s.
    first = row(write_training(tmp_path / "run"), NOW)
    assert first == Row("run", "training", 102, 300, 0.5, None, 7.0, 2970.0)
    # Of 100 records at 1, 2, ..., 50 s and then at every other second only the newest 50 count: 2 s a step, 101 to go.
    times = [*range(1, 51), *range(52, 152, 2)]
    assert row(write_training(tmp_path / "slower", times), NOW).seconds_left == 2.0 * 101


@pytest.mark.parametrize("seconds", [(), (10.0,)])
def test_time_left_is_unknown_before_the_second_record(tmp_path, seconds):
    workdir = write_training(tmp_path / "run", seconds)
    assert row(workdir, NOW).state == "training"
    assert row(workdir, NOW).seconds_left is None


def test_a_run_that_has_just_begun_is_known_by_its_lock(tmp_path):
    workdir = write_run(tmp_path / "run", status=None)
    (workdir / "metrics.jsonl").unlink()
    (workdir / "lock").write_text("process 1 on host since today\n")
    os.utime(workdir / "lock", (NOW - 100, NOW - 100))
    assert row(workdir, NOW) == Row("run", "training", 0, 300)


@pytest.mark.parametrize(
    ("seconds", "age", "state"),
    [
        ((10.0, 20.0), 599, "training"),
        ((10.0, 20.0), 601, "unfinished"),
        ((10.0, 1010.0), 2999, "training"),  # Three times the 1000 s between its records.
        ((10.0, 1010.0), 3001, "unfinished"),
        ((10.0,), -50, "training"),  # The clock of the file server is ahead.
    ],
)
def test_a_run_counts_as_training_while_its_files_are_young_for_its_pace(tmp_path, seconds, age, state):
    assert row(write_training(tmp_path / "run", seconds, NOW - age), NOW).state == state


def test_a_half_written_last_line_is_ignored(tmp_path):
    workdir = write_training(tmp_path / "run")
    whole = row(workdir, NOW)
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 103, "split": "tra')
    os.utime(workdir / "metrics.jsonl", (NOW, NOW))
    assert row(workdir, NOW) == whole


def test_damaged_and_vanishing_files_leave_a_row(tmp_path, monkeypatch):
    workdir = write_training(tmp_path / "run")
    (workdir / "metrics.jsonl").write_text("\0\0\0\n")
    assert row(workdir, NOW) == Row("run", "unreadable")

    def vanished(path, is_enough):
        raise FileNotFoundError(path)

    monkeypatch.setattr(watch, "newest_metrics", vanished)
    assert row(workdir, NOW) == Row("run", "unreadable")


def test_the_sweep_takes_as_long_as_its_longest_run_if_none_waits():
    rows = [Row("a", "training", 50, 100, seconds_left=60.0), Row("b", "training", 50, 100, seconds_left=90.0)]
    done = [Row("c", "finished", 100, 100), Row("d", "failed", 10, 100), Row("e", "diverged", 10, 100)]
    assert seconds_left([*rows, *done], {}) == 90.0


def test_the_sweep_takes_as_long_as_what_waits_at_the_pace_of_what_trains():
    # Half of a run of 200 multiply-adds in 50 s, and of one of 100 in 50 s: 3 a second. 150 are left, and 300 wait.
    training = [Row("a", "training", 50, 100, seconds_left=50.0), Row("b", "training", 50, 100, seconds_left=50.0)]
    waiting = [Row("c", "not started"), Row("d", "preempted", 50, 100), Row("e", "finished", 100, 100)]
    costs = {"a": 200, "b": 100, "c": 200, "d": 200, "e": 200}
    assert seconds_left([*training, *waiting], costs) == (100 + 50 + 200 + 100) / 3
    # A third that has only begun counts as fast as the two: 4.5 a second, and 450 + 90 are left.
    begun = Row("f", "training", 10, 100)
    assert seconds_left([*training, *waiting, begun], costs | {"f": 100}) == (450 + 90) / 4.5
    # The longest run that trains is a lower limit.
    long = Row("g", "training", 0, 100, seconds_left=9000.0)
    assert seconds_left([long, *training, *waiting], costs | {"g": 100}) == 9000.0


@pytest.mark.parametrize(
    ("rows", "costs"),
    [
        ([Row("a", "not started"), Row("b", "unfinished", 5, 10)], {"a": 1, "b": 1}),  # None trains.
        ([Row("a", "training", 5, 10)], {"a": 1}),  # It has only begun.
        ([Row("a", "training", 5, 10), Row("b", "training", 5, 10, seconds_left=1.0)], {}),
        ([Row("a", "training", 5, 10, seconds_left=1.0), Row("b", "not started")], {}),  # Costs are not known.
        ([Row("a", "training", 10, 10, seconds_left=0.0), Row("b", "not started")], {"a": 1, "b": 1}),  # No pace.
        ([Row("a", "finished", 10, 10)], {"a": 1}),
    ],
)
def test_what_cannot_be_said_of_the_time_left_is_not_said(rows, costs):
    assert seconds_left(rows, costs) is None


def test_a_record_changes_what_is_written_and_a_missing_folder_has_nothing(tmp_path):
    workdirs = [write_training(tmp_path / "run"), tmp_path / "missing"]
    before = watch.file_stamps(workdirs)
    assert set(before) == {workdirs[0] / "metrics.jsonl"}
    assert watch.file_stamps(workdirs) == before
    with (workdirs[0] / "metrics.jsonl").open("a") as file:
        file.write("{}\n")
    assert watch.file_stamps(workdirs) != before


def test_of_a_long_run_only_the_end_of_its_metrics_is_read(tmp_path):
    workdir = write_training(tmp_path / "run", [0.1 * index for index in range(20_000)])
    metrics = workdir / "metrics.jsonl"
    lines = metrics.read_bytes() + b'{"step": 20099, "split": "test", "error": 0.6, "seconds": 2000.0}\n'
    metrics.write_bytes(lines)
    os.utime(metrics, (NOW - 1, NOW - 1))
    whole = row(workdir, NOW)
    metrics.write_bytes(b"no JSON\n" * 100_000 + lines)  # Whoever reads it from the beginning fails.
    os.utime(metrics, (NOW - 1, NOW - 1))
    assert row(workdir, NOW) == whole
    assert (whole.step, whole.training_error, whole.test_error) == (100 + 19_999, 0.5, 0.6)


def test_a_long_run_is_not_taken_for_one_that_records_once_in_days(tmp_path):
    # Its oldest record that is read is of ten days after its start.
    times = [864_000.0 + index for index in range(100_000)]
    written = NOW - watch.PATIENCE_SECONDS - 1
    assert row(write_training(tmp_path / "run", times, written), NOW).state == "unfinished"
