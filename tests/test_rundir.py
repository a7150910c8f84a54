"""Files that are written whole or not at all, and read as they were."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from resnet_jax import rundir, safe_files
from resnet_jax.errors import UserError


def test_the_newest_checkpoint_is_the_last_that_is_complete(tmp_path):
    assert rundir.saved_step(tmp_path) == 0
    for name in ("5", "10", "15.orbax-checkpoint-tmp"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert rundir.saved_step(tmp_path) == 10


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "../run2/secret", "circle"])
def test_a_record_that_is_a_link_out_of_its_folder_is_not_read(tmp_path, target):
    for folder in ("run", "run2"):
        (tmp_path / folder).mkdir()
    for file in ("secret", "run2/secret"):
        (tmp_path / file).write_text("{}\n")
    link = tmp_path / "run" / "circle"
    link.symlink_to(target)
    for read in (safe_files.read_json, safe_files.within):
        with pytest.raises(
            UserError, match=re.escape(f"{link} is a link that leaves {tmp_path / 'run'}; replace it by")
        ):
            read(link)
    if target != "circle":  # Which does not exist.
        for read in (rundir.read_metrics, rundir.cut_off):
            with pytest.raises(UserError, match="is a link that leaves"):
                read(link)


@pytest.mark.parametrize("name", ["../other", "/etc", "a/b", "..", ".", "", "a/", "a\0b", "a\nb", "a\x1b[2J"], ids=repr)
def test_the_name_of_a_run_is_that_of_a_folder_in_the_sweep(tmp_path, name):
    (tmp_path / "sweep.json").write_text(json.dumps({"runs": {"plain-20": {}, name: {}}}))
    with pytest.raises(
        UserError, match=re.escape(f"{tmp_path / 'sweep.json'} has a run {name!r}, which is not the name")
    ):
        rundir.read_sweep(tmp_path)


def test_a_run_that_is_a_link_out_of_its_sweep_is_refused(tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps({"runs": {"plain-20": {}}}))
    assert rundir.read_sweep(tmp_path / "sweep")["runs"] == {"plain-20": {}}
    (tmp_path / "sweep" / "plain-20").symlink_to(tmp_path)
    with pytest.raises(UserError, match="plain-20 is a link that leaves"):
        rundir.read_sweep(tmp_path / "sweep")


def lines_of(steps, split="train"):
    return "".join(
        json.dumps({"step": step, "split": split, "loss": None, "error": 0.5, "seconds": 1.0, "text": "é" * 9}) + "\n"
        for step in steps
    ).encode()


def never(lines):
    return False


@pytest.mark.parametrize("ending", [b"", b'{"step": 7, "sp', "é".encode()[:1]])
def test_the_newest_metrics_are_the_last_complete_lines_of_the_file(tmp_path, ending):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines_of(range(30_000)) + ending)
    found = rundir.newest_metrics(path, lambda lines: len(lines) >= 50)
    steps = [line["step"] for line in found.lines]
    assert steps == list(range(steps[0], 30_000))
    assert 50 <= len(steps) < 1_000  # A block of 64 KiB.
    assert not found.is_all


def test_more_is_read_until_it_is_enough_but_never_more_than_the_largest_block(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines_of([0], "test") + lines_of(range(1, 5_000)))
    found = rundir.newest_metrics(path, lambda lines: any(line["split"] == "test" for line in lines))
    assert found.is_all
    assert found.lines == rundir.read_metrics(path)
    path.write_bytes(lines_of([0], "test") + lines_of(range(1, 30_000)))
    found = rundir.newest_metrics(path, never)
    assert not found.is_all
    assert len(lines_of([line["step"] for line in found.lines])) <= max(rundir.TAILS)


def test_the_newest_metrics_of_a_short_file_are_all_and_of_none_nothing(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert rundir.newest_metrics(path, never) == ([], True)
    path.write_bytes(b"")
    assert rundir.newest_metrics(path, never) == ([], True)
    path.write_bytes(lines_of(range(3)))
    assert rundir.newest_metrics(path, never) == (rundir.read_metrics(path), True)


def test_a_damaged_line_among_the_newest_is_reported(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(lines_of(range(3)) + b"{]\n" + lines_of(range(3)))
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged"):
        rundir.newest_metrics(tmp_path / "metrics.jsonl", never)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "circle"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, kind):
    path = tmp_path / "summary.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path.name)
    with pytest.raises(UserError, match=r"summary\.json (is not a file|cannot be read \(.*\)|is a link that leaves)"):
        rundir.read_summary(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_refused(tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    (tmp_path / "summary.json").chmod(0)
    with pytest.raises(UserError, match=r"summary\.json cannot be read \(Permission denied\)"):
        rundir.read_summary(tmp_path)


FIGURES = {"step": 9, "loss": 0.5, "error": 0.25}
SUMMARY = {
    "status": "finished",
    "steps": 9,
    "seconds": 1.0,
    "parameters": 1,
    "multiply_adds": 1,
    "final": {"test": FIGURES},
    "best": {"test": FIGURES},
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"final": {"test": FIGURES | {"error": -87.4}}},
            r"final\.test\.error is -87\.4 instead of a number",
        ),
        ({"best": {"test": FIGURES | {"error": 1.5}}}, r"best\.test\.error is 1\.5 instead of"),
        ({"final": {"test": FIGURES | {"error": "0.5"}}}, r"final\.test\.error is '0\.5' instead of a number"),
        ({"final": {"test": FIGURES | {"error": None}}}, r"final\.test\.error is None instead of a number"),
        ({"final": {"test": {"step": 9, "loss": 0.5}}}, r"final\.test has no error"),
        ({"final": [1]}, r"final is \(1,\) instead of a dictionary"),
        ({"steps": -9}, r"steps is -9 instead of a whole number at least 0"),
        ({"steps": True}, r"steps is True instead of a whole number"),
        ({"steps": 10**400}, r"steps is 10+\.\.\. instead of a whole number"),
        ({"seconds": None}, r"seconds is None instead of a number"),
        ({"status": "done"}, r"status is 'done', which is none of finished, diverged"),
    ],
)
def test_a_summary_with_figures_that_cannot_be_is_damaged(tmp_path, change, reason):
    safe_files.write_json(tmp_path / "summary.json", SUMMARY)
    assert rundir.read_summary(tmp_path) == SUMMARY
    safe_files.write_json(tmp_path / "summary.json", SUMMARY | change)
    with pytest.raises(UserError, match=rf"summary\.json is damaged: {reason}"):
        rundir.read_summary(tmp_path)


LINE = {"step": 1, "split": "train", "loss": None, "error": 0.5, "seconds": 1.0}


def test_a_last_line_that_was_being_written_is_not_read_whatever_bytes_it_has(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(json.dumps(LINE).encode() + b'\n{"step": 2, "sp\xff\0')
    assert rundir.read_metrics(path) == [LINE]
    assert rundir.cut_off(path)


@pytest.mark.parametrize("line", [b"\xff", b"{}", b"[]", b"null", b"\0\0", json.dumps(LINE | {"error": 2}).encode()])
def test_a_damaged_line_is_named_by_its_number(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(json.dumps(LINE).encode() + b"\n" + line + b"\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged in line 2: .*; remove that line or the run\.$"):
        rundir.read_metrics(path)


@pytest.mark.parametrize("content", ["[]", '{"question": 3, "runs": {}}', '{"runs": [1]}', '{"runs": {"a": 1}}', "{}"])
def test_a_damaged_sweep_is_refused(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(UserError, match=r"sweep\.json is damaged: .*; remove it or give another folder"):
        rundir.read_sweep(tmp_path)


def test_files_are_utf_8_whatever_the_locale(tmp_path):
    program = (
        "import pathlib, sys; from resnet_jax.safe_files import read_json, read_text, write_text; "
        "folder = pathlib.Path(sys.argv[1]); write_text(folder / 'b', read_json(folder / 'a.json') + chr(0xE9)); "
        "assert len(read_text(folder / 'b')) == 5"
    )
    (tmp_path / "a.json").write_bytes('"café"'.encode())
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", program, tmp_path], env=os.environ | locale, check=True)
    assert (tmp_path / "b").read_bytes() == "caféé".encode()


def test_the_normalisation_of_a_run_is_bound_to_it(tmp_path):
    run = {"config": {"seed": 0}, "data": "a" * 64}
    mean = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 2, 3) / 3
    assert rundir.read_normalisation(tmp_path, run) is None
    rundir.write_normalisation(tmp_path, mean, None, run)
    found, std = rundir.read_normalisation(tmp_path, run)
    np.testing.assert_array_equal(found, mean)
    assert std is None
    rundir.write_normalisation(tmp_path, mean, np.full((1, 1, 3), 0.3, np.float32), run)
    np.testing.assert_array_equal(rundir.read_normalisation(tmp_path, run)[1], np.full((1, 1, 3), 0.3, np.float32))
    content = safe_files.read_json(tmp_path / "normalisation.json")
    refused = pytest.raises(UserError, match=r"normalisation\.json is damaged: .*; re(store|move) it")
    with refused:
        rundir.read_normalisation(tmp_path, run | {"config": {"seed": 1}})
    for changed in (content | {"std": [[[0.3, 0.3, 0.4]]]}, {"mean": content["mean"], "std": None}, [], {}):
        safe_files.write_json(tmp_path / "normalisation.json", changed)
        with refused:
            rundir.read_normalisation(tmp_path, run)
