"""Measurements, kept and read again."""

import json

import numpy as np
import pytest

from resnet_jax import instruments
from resnet_jax.errors import UserError
from resnet_jax.instruments import Instrument, Settings, diagnosis

COMMAND = ["python", "notebook"]


@pytest.fixture
def subject(whole, monkeypatch):
    """Return the subject of a run; an instrument "made_up" measures it, and "refusing" does not."""

    def refuse(subject):
        raise UserError(f"{subject.net.title} has no such thing")

    for name, measure in (("made_up", lambda _: {"rank": np.float32([1, np.nan])}), ("refusing", refuse)):
        monkeypatch.setitem(instruments.INSTRUMENTS, name, Instrument(measure, "?", "0", (0,)))
    return instruments.of_run(whole, 0, Settings(examples=20, batch=8))


def test_a_measurement_names_its_subject_and_is_read_unchanged(subject, tmp_path):
    measurement = diagnosis.measure("made_up", subject, COMMAND)
    assert (measurement.net, measurement.run, measurement.step) == ("residual-8", "run", 0)
    assert (measurement.statistics, measurement.data) == ("batch", "digits")
    assert measurement.settings == {"examples": 20, "batch": 8, "seed": 0}
    assert measurement.blocks == ["stage1/block0", "stage2/block0", "stage3/block0"]
    assert measurement.result == {"rank": [1.0, None]}
    diagnosis.add(tmp_path, measurement)
    diagnosis.add(tmp_path, measurement._replace(step=5))
    assert [each.step for each in diagnosis.read(tmp_path)] == [0, 5]
    [first, _] = diagnosis.read(tmp_path, "made_up")
    assert json.dumps(first._asdict()) == json.dumps(measurement._asdict())
    assert first.matches(0, Settings(20, 8)._asdict())


def test_a_refusal_leaves_nothing(subject, tmp_path):
    with pytest.raises(UserError, match="residual-8 has no such thing"):
        diagnosis.measure("refusing", subject)
    assert diagnosis.read(tmp_path) == []
