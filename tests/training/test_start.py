"""A run that starts from the net of another run."""

import shutil

import jax
import numpy as np
import pytest

from configs import recipes
from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.rundir import read_config, saved_steps
from resnet_jax.training import train
from resnet_jax.training.checkpoints import Checkpoints
from resnet_jax.training.program import make_program
from resnet_jax.training.start import first_difference
from tests.promises.runs import figures, last_state
from tests.training.tiny import with_tiny_net

pytestmark = pytest.mark.xdist_group("start")


def state_at(config, workdir, before):
    """Return the newest state in ``workdir`` of fewer steps than ``before``, on the host."""
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        state, _ = checkpoints.restore(make_program(config, 10).init((8, 8, 1)), before)
    return jax.device_get(state)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture
def config(config, whole):
    config.from_run = str(whole)
    config.steps = 6
    config.checkpoint_every = 6
    return config


def test_it_has_the_net_of_the_newest_checkpoint_and_an_optimiser_that_starts_anew(config, whole, tmp_path):
    config.model.residual = False  # It has the same layers.
    summary = train(config, tmp_path / "run")
    assert summary["status"] == "finished"
    assert saved_steps(tmp_path / "run") == [0, 6]
    start, source = state_at(config, tmp_path / "run", before=6), last_state(read_config(whole).config, whole)
    assert (int(start.step), int(source.step)) == (0, 12)
    assert_equal(start.params, source.params)
    assert_equal(start.batch_stats, source.batch_stats)
    assert_equal(start.opt_state, make_program(config, 10).init((8, 8, 1)).opt_state)
    assert read_config(tmp_path / "run").config.from_run == str(whole)


@pytest.mark.slow
def test_once_started_it_does_not_need_the_other_run(config, whole, tmp_path):
    other = shutil.copytree(whole, tmp_path / "other")
    config.from_run = str(other)
    train(config, tmp_path / "run")
    first, state = figures(tmp_path / "run"), last_state(config, tmp_path / "run")
    shutil.rmtree(other)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "6")
    (tmp_path / "run" / "summary.json").unlink()
    assert train(config, tmp_path / "run")["status"] == "finished"
    assert figures(tmp_path / "run") == first
    assert_equal(last_state(config, tmp_path / "run"), state)


def test_it_starts_from_averaged_parameters_where_these_are_kept(config, registrations, tmp_path):
    with_tiny_net(config).from_run = None
    config.optimizer.average_decay = 0.5
    train(config, tmp_path / "averaged")
    averaged = last_state(config, tmp_path / "averaged")
    config.from_run = str(tmp_path / "averaged")
    train(config, tmp_path / "run")
    start = state_at(config, tmp_path / "run", before=6)
    [average] = [part.average for part in averaged.opt_state if hasattr(part, "average")]
    assert_equal(start.params, average)
    assert_equal(start.opt_state[-1].average, average)
    assert np.any(start.params["head"]["kernel"] != averaged.params["head"]["kernel"])


def refused(config, workdir, message):
    with pytest.raises(UserError, match=message):
        train(config, workdir)
    assert not workdir.exists()


def test_another_net_or_a_folder_without_a_run_is_refused_and_nothing_is_written(config, whole, tmp_path):
    workdir = tmp_path / "run"
    config.model.depth = 14
    refused(
        config,
        workdir,
        r"config\.from_run=.* holds residual-8, but this run trains residual-14; they differ in stage1/block1/conv1 "
        r"\(kernel 3x3x16x16 here, none there\): give a run of a net with the same layers\.",
    )
    config.model.depth = 8
    config.from_run = str(tmp_path)
    refused(config, workdir, r"config\.from_run=.* is not a run directory; give one like runs/NAME\.")
    (tmp_path / "empty").mkdir()
    shutil.copy(whole / "config.json", tmp_path / "empty")
    config.from_run = str(tmp_path / "empty")
    refused(config, workdir, r"empty has no checkpoint yet; continue its training or use another run\.")


@pytest.mark.parametrize(
    ("fields", "classes", "difference"),
    [
        ({"residual": False}, 10, None),
        ({"norm": "none"}, 10, "stem/bn (bias 16, mean 16, scale 16, var 16 here, bias 16 there)"),
        ({"reserve": True}, 10, "stage1/block0/conv1 (kernel 3x3x16x16 here, kernel 3x3x16x32 there)"),
        ({"shortcut": "B"}, 10, "stage2/block0/shortcut/conv (none here, kernel 1x1x16x32 there)"),
        ({}, 100, "head (bias 10, kernel 64x10 here, bias 100, kernel 64x100 there)"),
    ],
    ids=str,
)
def test_the_first_layer_in_which_nets_differ_is_named(fields, classes, difference):
    model = recipes.digits(depth=8, residual=True).model
    here, there = (
        models.walk(models.build(dict(model) | own, count), (8, 8, 1)) for own, count in (({}, 10), (fields, classes))
    )
    assert first_difference(here, there) == difference
