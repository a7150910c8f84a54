"""Measurements as lines of files."""

import json
import math
import pathlib

import numpy as np
import pytest

from resnet_jax.errors import UserError
from resnet_jax.instruments import diagnosis
from resnet_jax.instruments.diagnosis import Measurement

SETTINGS = {"examples": 512, "batch": 128, "seed": 0}


def measurement(**changes):
    whole = {
        "instrument": "gradients",
        "net": "plain-8",
        "model": {"depth": 8, "residual": False},
        "run": "plain8",
        "seed": 0,
        "data": "digits",
        "step": 100,
        "settings": SETTINGS,
        "statistics": "running",
        "blocks": ["stage1/block0"],
        "result": {"norm": [1.5]},
        "seconds": 0.5,
        "command": ["python", "-m", "experiments.diagnose"],
        "environment": {"python": "3.11"},
    }
    return Measurement(**whole | changes)


def test_measurements_are_read_in_their_order(tmp_path):
    assert diagnosis.read(tmp_path) == []
    first, second, other = measurement(), measurement(step=None, seed=None), measurement(instrument="probes")
    for each in (first, other, second):
        diagnosis.add(tmp_path, each)
    assert diagnosis.read(tmp_path, "gradients") == [first, second]
    assert diagnosis.read(tmp_path, "probes") == [other]
    assert diagnosis.read(tmp_path) == [first, second, other]
    lines = (tmp_path / "diagnosis" / "gradients.jsonl").read_text().splitlines()
    assert {json.loads(line)["version"] for line in lines} == {1}


def test_arrays_are_lists_and_non_finite_numbers_are_null(tmp_path):
    values = {
        "array": np.array([[1, math.nan], [math.inf, 2]], np.float32),
        "number": np.float32(0.5),
        "count": np.int64(3),
        "flag": np.bool_(True),
        "nested": [{"tuple": (-math.inf, 1.0)}, "word", None],
        3: np.zeros(0),
    }
    diagnosis.add(tmp_path, measurement(result=values))
    [found] = diagnosis.read(tmp_path)
    assert found.result == {
        "array": [[1, None], [None, 2]],
        "number": 0.5,
        "count": 3,
        "flag": True,
        "nested": [{"tuple": [None, 1.0]}, "word", None],
        "3": [],
    }


def test_a_measurement_matches_its_step_and_settings():
    each = measurement()
    assert each.matches(100, dict(SETTINGS))
    assert not each.matches(10, SETTINGS)
    assert not each.matches(None, SETTINGS)
    assert not each.matches(100, SETTINGS | {"seed": 1})


def test_a_line_that_was_being_written_is_left_out(tmp_path):
    diagnosis.add(tmp_path, measurement())
    with (tmp_path / "diagnosis" / "gradients.jsonl").open("a") as file:
        file.write('{"version": 1, "instru')
    assert diagnosis.read(tmp_path) == [measurement()]


def test_a_measurement_added_after_such_a_line_can_be_read(tmp_path):
    diagnosis.add(tmp_path, measurement())
    with (tmp_path / "diagnosis" / "gradients.jsonl").open("a") as file:
        file.write('{"version": 1, "instru')
    diagnosis.add(tmp_path, measurement(step=10))
    assert diagnosis.read(tmp_path) == [measurement(), measurement(step=10)]


@pytest.mark.parametrize("damage", ["no json\n", '{"instrument": "gradients"}\n'], ids=["no JSON", "lacks fields"])
def test_a_damaged_file_is_named(tmp_path, damage):
    diagnosis.add(tmp_path, measurement())
    with (tmp_path / "diagnosis" / "gradients.jsonl").open("a") as file:
        file.write(damage)
    with pytest.raises(
        UserError, match=r"diagnosis/gradients\.jsonl is damaged in line 2: .*; remove it and measure again\.$"
    ):
        diagnosis.read(tmp_path)


def test_a_folder_that_cannot_be_written_is_named():
    with pytest.raises(
        UserError, match=r"^/proc/x/diagnosis/gradients\.jsonl cannot be written \(.*\); correct that or "
    ):
        diagnosis.add(pathlib.Path("/proc/x"), measurement())
