"""The run directory as it is written, and which folders can be one."""

import json
import shutil

import jax
import pytest
from tensorboardX.proto.event_pb2 import Event

from resnet_jax import identity
from resnet_jax.errors import UserError
from resnet_jax.rundir import read_metrics
from resnet_jax.safe_files import read_json, write_json
from resnet_jax.training.record import RunRecord, check_seen, check_workdir

DATA = {
    "class_names": ["a", "b"],
    "image_shape": [8, 8, 1],
    "examples": {"train": [3, 4]},
    "covers": "all",
    "contents": "d",
}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def events(folder):
    """Return (step, tag, value) of the event files in ``folder``, by TensorFlow's record format."""
    found = []
    for path in sorted(folder.iterdir()):
        content, start = path.read_bytes(), 0
        while start < len(content):
            length = int.from_bytes(content[start : start + 8], "little")
            event = Event.FromString(content[start + 12 : start + 12 + length])
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            start += 16 + length
    return found


def test_records_are_lines_and_events(config, tmp_path):
    with RunRecord(tmp_path / "run", config, ["main"], DATA) as record:
        record.begin(0, 0.0)
        record.write(10, "train", loss=0.5, error=0.25)
        record.write(20, "test", loss=0.75, error=0.5)
        summary = record.finish("finished", 20, parameters=3, multiply_adds=7)
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [{**line, "seconds": 0} for line in lines] == [
        {"step": 10, "split": "train", "loss": 0.5, "error": 0.25, "seconds": 0},
        {"step": 20, "split": "test", "loss": 0.75, "error": 0.5, "seconds": 0},
    ]
    assert events(tmp_path / "run" / "tensorboard") == [
        (10, "train/loss", 0.5),
        (10, "train/error", 0.25),
        (20, "test/loss", 0.75),
        (20, "test/error", 0.5),
    ]
    assert summary["final"]["test"] == summary["best"]["test"] == {"step": 20, "loss": 0.75, "error": 0.5}
    assert (summary["status"], summary["steps"], summary["parameters"]) == ("finished", 20, 3)
    recorded = read_json(tmp_path / "run" / "config.json")
    assert recorded["command"] == ["main"]
    assert recorded["config"] == json.loads(json.dumps(config.to_dict()))


def test_the_best_is_the_least_error_and_the_final_the_last(config, tmp_path):
    with RunRecord(tmp_path / "run", config, [], DATA) as record:
        record.begin(0, 0.0)
        for step, error in ((1, 0.5), (2, 0.125), (3, 0.25)):
            record.write(step, "test", loss=1.0, error=error)
        summary = record.finish("finished", 3, parameters=0, multiply_adds=0)
    assert summary["best"]["test"]["step"] == 2
    assert summary["final"]["test"]["step"] == 3


def test_records_after_the_step_resumed_from_are_dropped(config, tmp_path):
    with RunRecord(tmp_path / "run", config, [], DATA) as record:
        record.begin(0, 0.0)
        for step in (1, 2, 3):
            record.write(step, "train", loss=1.0, error=0.5)
        record.finish("preempted", 3, parameters=0, multiply_adds=0)
    with RunRecord(tmp_path / "run", config, [], DATA) as record:
        record.begin(2, 100.0)
        assert not (tmp_path / "run" / "summary.json").exists()
        record.write(3, "train", loss=2.0, error=0.5)
        record.finish("preempted", 3, parameters=0, multiply_adds=0)
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1.0), (2, 1.0), (3, 2.0)]
    assert lines[-1]["seconds"] >= 100


def run_in(folder, config, data=DATA):
    with RunRecord(folder, config, [], data) as record:
        record.begin(0, 0.0)
        record.finish("preempted", 0, parameters=0, multiply_adds=0)


def test_a_new_an_empty_and_the_same_runs_folder_are_accepted(config, tmp_path):
    check_workdir(tmp_path / "new" / "deep", config)
    check_workdir(tmp_path, config)
    run_in(tmp_path / "run", config)
    config.data.data_dir = "/elsewhere"  # Where the data lies does not make another run.
    check_workdir(tmp_path / "run", config)


def test_the_folder_of_another_configs_run_is_refused_and_untouched(config, tmp_path):
    run_in(tmp_path / "run", config)
    before = contents(tmp_path)
    config.seed = 5
    config.model.depth = 14
    message = r"config\.seed \(0 there, 5 here\), config\.model\.depth \(8 there, 14 here\); give another --workdir"
    with pytest.raises(UserError, match=message):
        check_workdir(tmp_path / "run", config)
    assert contents(tmp_path) == before


def test_milestones_are_compared_in_steps_and_only_where_the_schedule_has_them(config, tmp_path):
    run_in(tmp_path / "run", config)
    config.optimizer.milestones = (0.49, 0.76)  # 12 steps: the same two.
    check_workdir(tmp_path / "run", config)
    config.optimizer.milestones = (0.5,)
    with pytest.raises(UserError, match=r"config\.optimizer\.milestones \(\[0\.5, 0\.75\] there, \[0\.5\] here\)"):
        check_workdir(tmp_path / "run", config)
    config.optimizer.schedule = "plateau"
    run_in(tmp_path / "plateau", config)
    config.optimizer.milestones = ()
    check_workdir(tmp_path / "plateau", config)


def test_folders_that_cannot_be_a_run_are_refused(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--workdir=.*/file is a file; give another --workdir"):
        check_workdir(tmp_path / "file", config)
    with pytest.raises(UserError, match=r"cannot be written, because .*/file cannot; give another --workdir"):
        check_workdir(tmp_path / "file" / "run", config)
    with pytest.raises(UserError, match=r"is not empty and not a run directory; choose another --workdir"):
        check_workdir(tmp_path, config)
    with pytest.raises(UserError, match=r"^/proc/run cannot be written \(No such file or directory\)"):
        RunRecord(type(tmp_path)("/proc/run"), config, [], DATA)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "is not the config of a run; remove it or give another folder"),
        ('{"config": 3, "command": []}', "is not the config of a run"),
        ('{"config": {}}', "is not the config of a run"),
        ('{"version": "2", "config": {}, "command": []}', "is not the config of a run"),
        (
            '{"version": 1, "config": {"steps": "9", "optimizer": {"milestones": [1]}}, "command": []}',
            "is not the config",
        ),
        ('{"version": 2, "config": {"optimizer": {"milestones": "soon"}}, "command": []}', "is not the config of a"),
        (
            '{"version": 3, "config": {}, "command": []}',
            r": format version 3, of a newer version of this project; up",
        ),
        ('{"version": 2, "config": {"x": 1}, "command": []}', r": unknown field config\.x, of a newer version of "),
        ('{"version": 2, "config": {"model": {"depth": -3}}, "command": []}', r": config\.model\.depth=-3 must be at"),
        (
            '{"version": 2, "config": {"model": {"shortcut": "D"}}, "command": []}',
            r": config\.model\.shortcut='D' is unknown; choose one of A, B, ",
        ),
        (
            '{"version": 2, "config": {"model": {"block": "mine"}}, "command": []}',
            r": config\.model\.block='mine' is unknown; choose one of .* registers your own by --import=FILE",
        ),
    ],
)
def test_a_damaged_config_is_refused(config, tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=rf"config\.json ?{message}"):
        check_workdir(tmp_path, config)


def starts(folder):
    return read_json(folder / "environment.json")


def test_a_first_start_records_what_identifies_the_run(config, tmp_path):
    run_in(tmp_path / "run", config)
    recorded = identity.read(tmp_path / "run")
    assert recorded.config == identity.of_config(config)
    assert recorded.data == DATA
    assert recorded.versions["jax"] == jax.__version__
    assert "warnings" not in starts(tmp_path / "run")[0]


def test_a_later_start_on_other_data_is_refused_and_changes_nothing(config, tmp_path):
    run_in(tmp_path / "run", config)
    before = contents(tmp_path / "run")
    with pytest.raises(
        UserError, match=r"was trained on other data, differing in class_names \(\[1\] 'b' there, 'c' here"
    ):
        RunRecord(tmp_path / "run", config, [], DATA | {"class_names": ["a", "c"]})
    after = contents(tmp_path / "run")
    assert {path.name for path in before if before[path] != after[path]} <= {"lock"}


def test_what_may_change_between_starts_is_recorded(config, tmp_path, caplog):
    run_in(tmp_path / "run", config)
    recorded = read_json(tmp_path / "run" / "identity.json")
    recorded["versions"]["jax"] = "0.1"
    write_json(tmp_path / "run" / "identity.json", recorded)
    config.data.on_bad_image = "skip"
    run_in(tmp_path / "run", config)
    versions, field = starts(tmp_path / "run")[1]["warnings"]
    assert versions == f"the versions have changed since the first start: jax ('0.1' there, {jax.__version__!r} here)."
    assert field == "config.data.on_bad_image is 'skip' now, 'error' at the first start."
    assert versions in caplog.text
    assert field in caplog.text


def test_a_run_of_before_is_continued_and_its_data_are_recorded_then(config, tmp_path):
    run_in(tmp_path / "run", config)
    (tmp_path / "run" / "identity.json").unlink()
    for _ in range(2):
        run_in(tmp_path / "run", config)
    assert [len(start.get("warnings", [])) for start in starts(tmp_path / "run")] == [0, 1, 0]
    assert identity.read(tmp_path / "run").data == DATA
    with pytest.raises(UserError, match=r"differing in contents \('d' there, 'e' here\)"):
        run_in(tmp_path / "run", config, DATA | {"contents": "e"})


def test_a_config_file_of_another_run_is_refused(config, tmp_path):
    run_in(tmp_path / "run", config)
    config.seed = 1
    run_in(tmp_path / "other", config)
    shutil.copy(tmp_path / "other" / "config.json", tmp_path / "run" / "config.json")
    with pytest.raises(
        UserError, match=r"config\.json is not the one the run was started with: seed \(0 there, 1 here\)"
    ):
        run_in(tmp_path / "run", config)


@pytest.mark.parametrize("kind", ["removed", "moved", "replaced"])
def test_a_run_directory_that_vanishes_during_the_run_is_noticed_at_once(config, tmp_path, kind):
    workdir = tmp_path / "run"
    with RunRecord(workdir, config, [], DATA) as record:
        record.begin(0, 0.0)
        record.write(10, "train", loss=0.5, error=0.25)
        if kind == "moved":
            workdir.rename(tmp_path / "elsewhere")
        else:
            shutil.rmtree(workdir)
        if kind == "replaced":
            workdir.mkdir()
            (workdir / "metrics.jsonl").write_text("")
        said = r"run or its metrics\.jsonl was removed or replaced while the run was writing there"
        with pytest.raises(UserError, match=said):
            record.write(20, "train", loss=0.5, error=0.25)
        with pytest.raises(UserError, match=said):
            record.sync()
        with pytest.raises(UserError, match=said):
            record.finish("finished", 20, parameters=3, multiply_adds=7)


def test_a_cut_off_line_with_any_bytes_does_not_prevent_a_start(config, tmp_path):
    with RunRecord(tmp_path / "run", config, [], DATA) as record:
        record.begin(0, 0.0)
        record.write(10, "train", loss=0.5, error=0.25)
    with (tmp_path / "run" / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 20, "spl\xff')
    with RunRecord(tmp_path / "run", config, [], DATA) as record:
        record.begin(20, 0.0)
        record.write(20, "train", loss=0.5, error=0.25)
    assert [line["step"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [10, 20]


def test_data_that_the_checkpoints_refuse_are_not_recorded_as_those_of_a_run_of_before(config, tmp_path):
    with RunRecord(tmp_path, config, [], DATA) as record:
        record.begin(0, 0.0)
    (tmp_path / "identity.json").unlink()
    with RunRecord(tmp_path, config, [], DATA | {"contents": "e"}):
        pass  # Reading its checkpoint has failed.
    assert identity.read(tmp_path) is None
    with RunRecord(tmp_path, config, [], DATA) as record:
        record.begin(0, 0.0)
    assert identity.read(tmp_path).data == DATA


def test_a_folder_that_only_the_first_process_sees_is_refused(config, tmp_path, monkeypatch):
    monkeypatch.setattr("resnet_jax.training.record.SEEN_SECONDS", 0)
    with pytest.raises(UserError, match=r"^--workdir=.* of process 0 is not seen here; give a folder that all hosts "):
        check_seen(tmp_path)
    with RunRecord(tmp_path, config, [], DATA):
        check_seen(tmp_path)
