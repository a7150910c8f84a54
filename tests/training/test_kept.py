"""Nets that a run keeps for good, after the steps of ``config.keep_checkpoints``."""

import shutil
import signal

import jax
import numpy as np
import pytest

from resnet_jax import evaluation
from resnet_jax.errors import UserError
from resnet_jax.rundir import KEPT, read_config, saved_steps
from resnet_jax.training import parallel, train
from resnet_jax.training.loop import kept_steps
from resnet_jax.training.start import available_steps
from tests.promises.runs import at_step, figures, last_state

pytestmark = pytest.mark.xdist_group("kept")
STEPS = [0, 1, 3, 6, 9, 12]  # The steps of the config, the drops of the learning rate and the end.


@pytest.fixture
def config(config):
    config.keep_checkpoints = (0, 1, 3)
    return config


@pytest.fixture(scope="module")
def kept(tmp_path_factory, whole):
    """Return the directory of an undisturbed run, equal to ``whole`` but for the nets that it keeps."""
    config = read_config(whole).config
    config.keep_checkpoints = (0, 1, 3)
    workdir = tmp_path_factory.mktemp("kept") / "run"
    train(config, workdir)
    return workdir


def variables(workdir, step):
    return evaluation.of_run(workdir, parallel.device_mesh(), step=step).variables


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_run_keeps_the_steps_of_its_config_the_drops_of_the_rate_and_the_end(config, kept):
    assert kept_steps(config) == saved_steps(kept, KEPT) == STEPS
    assert available_steps(kept, config) == [0, 1, 3, 6, 9, 10, 12]  # With the two newest checkpoints.
    config.keep_checkpoints = (1, 12, 1000)  # The run ends before.
    assert kept_steps(config) == [1, 6, 9, 12]
    config.keep_checkpoints = ()
    assert kept_steps(config) == []


def test_a_run_that_keeps_nets_is_the_run_that_does_not(config, kept, whole):
    assert figures(kept) == figures(whole)
    assert_equal(last_state(config, kept), last_state(config, whole))
    assert not (whole / KEPT).exists()


def test_a_kept_net_is_the_net_after_its_step(config, kept, whole, tmp_path):
    assert_equal(variables(kept, 12), variables(whole, 12))
    assert_equal(variables(kept, 0), variables(whole, 0))  # Drawn again from the seed.
    config.keep_checkpoints = ()
    config.checkpoint_every = 3
    train(config, tmp_path / "run")
    assert_equal(variables(kept, 9), variables(tmp_path / "run", 9))
    first, last = variables(kept, 0), variables(kept, 12)
    assert np.any(first["params"]["head"]["kernel"] != last["params"]["head"]["kernel"])


@pytest.mark.slow
def test_a_resumed_run_keeps_the_same_nets_to_the_bit(config, kept, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 7, lambda: signal.raise_signal(signal.SIGTERM))
        assert train(config, tmp_path / "parts")["status"] == "preempted"
    assert saved_steps(tmp_path / "parts", KEPT) == [0, 1, 3, 6]
    assert train(config, tmp_path / "parts")["status"] == "finished"
    assert saved_steps(tmp_path / "parts", KEPT) == STEPS
    for step in STEPS:
        assert_equal(variables(tmp_path / "parts", step), variables(kept, step))


def test_steps_that_are_not_kept_and_damaged_ones_are_named(kept, tmp_path):
    with pytest.raises(UserError, match=r"has no net of step 2, only of 0, 1, 3, 6, 9, 10, 12; config"):
        variables(kept, 2)
    damaged = shutil.copytree(kept, tmp_path / "run")
    for file in (damaged / KEPT / "3" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"checkpoint 3 in .* is damaged; use another step\.$"):
        variables(damaged, 3)
    assert_equal(variables(damaged, 1), variables(kept, 1))


@pytest.mark.parametrize("steps", [(-1, 5), (0.5,)], ids=str)
def test_a_number_that_cannot_be_a_step_is_refused_and_nothing_is_written(config, tmp_path, steps):
    config.keep_checkpoints = steps
    with pytest.raises(UserError, match=r"^config\.keep_checkpoints=.* must be .*, as in '\(0,1,10,100\)'\.$"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
