"""The form of a run's convolutions: chosen once, recorded and kept."""

import signal

import jax
import numpy as np
import pytest

from resnet_jax.models.layers import onednn
from resnet_jax.safe_files import read_json, write_json
from resnet_jax.training import convolutions, train
from tests.models.nets import needs_onednn
from tests.promises.runs import at_step, figures, last_state
from tests.training.tiny import with_tiny_net


@needs_onednn
@pytest.mark.parametrize(
    ("side", "platform", "given", "expected"),
    [
        (32, "cpu", None, "onednn"),
        (16, "cpu", None, "onednn"),
        (8, "cpu", None, "lax"),
        (8, "cpu", "onednn", "onednn"),
        (32, "cpu", "lax", "lax"),
        (32, "gpu", "onednn", "lax"),
        (32, "tpu", None, "lax"),
    ],
)
def test_a_new_run_takes_the_faster_form_or_the_one_that_is_given(config, tmp_path, side, platform, given, expected):
    config.compile.convolutions = given
    assert convolutions.form_of_run(config, tmp_path, (side, side, 3), platform) == expected


def test_where_onednn_cannot_compute_lax_does(config, tmp_path, monkeypatch):
    monkeypatch.setattr(onednn, "is_available", lambda: False)
    for given in (None, "onednn"):
        config.compile.convolutions = given
        assert convolutions.form_of_run(config, tmp_path, (32, 32, 3), "cpu") == "lax"


@needs_onednn
def test_a_type_without_convolutions_is_left_to_lax(config, tmp_path, monkeypatch):
    monkeypatch.setattr(onednn, "PROCESSOR", tmp_path / "cpuinfo")
    config.dtype = "bfloat16"
    assert convolutions.form_of_run(config, tmp_path, (32, 32, 3), "cpu") == "lax"


@pytest.mark.slow
@needs_onednn
def test_a_run_records_its_form_and_keeps_it_to_the_bit(config, registrations, tmp_path, monkeypatch):
    with_tiny_net(config)
    config.compile.convolutions = "onednn"
    train(config, tmp_path / "whole")
    assert read_json(tmp_path / "whole" / "identity.json")["versions"]["convolutions"] == "onednn"
    assert onednn.form.value == "lax"
    with monkeypatch.context() as patch:
        at_step(patch, 5, lambda: signal.raise_signal(signal.SIGTERM))
        assert train(config, tmp_path / "parts")["status"] == "preempted"
    config.compile.convolutions = None
    assert train(config, tmp_path / "parts")["status"] == "finished"
    assert figures(tmp_path / "parts") == figures(tmp_path / "whole")
    whole, parts = (last_state(config, tmp_path / name) for name in ("whole", "parts"))
    jax.tree.map(np.testing.assert_array_equal, parts, whole)
    config.compile.convolutions = "lax"
    train(config, tmp_path / "other")
    assert figures(tmp_path / "other") != figures(tmp_path / "whole")


@needs_onednn
@pytest.mark.parametrize("versions", [{}, {"convolutions": "lax"}])
def test_a_run_that_began_by_lax_stays_with_it(config, registrations, tmp_path, versions):
    config.steps = 2
    train(with_tiny_net(config), tmp_path / "run")
    recorded = read_json(tmp_path / "run" / "identity.json")
    del recorded["versions"]["convolutions"]
    recorded["versions"] |= versions
    write_json(tmp_path / "run" / "identity.json", recorded)
    assert convolutions.form_of_run(config, tmp_path / "run", (32, 32, 3), "cpu") == "lax"
    (tmp_path / "run" / "identity.json").unlink()
    assert convolutions.form_of_run(config, tmp_path / "run", (32, 32, 3), "cpu") == "lax"
