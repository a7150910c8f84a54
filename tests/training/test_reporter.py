"""The records of the steps that the devices have made."""

import math

import jax.numpy as jnp
import pytest

from resnet_jax.training import optimizer
from resnet_jax.training.reporter import Reporter
from resnet_jax.training.step import TrainState


class Record:
    """Keeps what is written."""

    def __init__(self):
        self.lines = []

    def write(self, step, split, **scalars):
        self.lines.append((step, split, scalars))


@pytest.fixture
def reporter(config):
    config.log_every = 4
    sgd = optimizer.descent(config.optimizer, lambda step: 0.1)
    state = TrainState(jnp.int32(2), {}, {}, sgd.init({}))
    reporter = Reporter(config, lambda step: 0.1, 64, Record())
    reporter.begin(state, [{"loss": 8.0, "error": 1.0}, {"loss": 4.0, "error": 0.5}])
    return reporter


def metrics(*losses):
    return {
        "loss": jnp.array(losses),
        "error": jnp.full(len(losses), 0.25),
        "lr_scale": jnp.full(len(losses), 0.5),
    }


def test_the_running_error_is_the_mean_since_its_last_record_over_dispatches_and_resumes(reporter):
    assert reporter.steps(2, metrics(3.0)) is None
    assert reporter._record.lines == []
    assert reporter.steps(3, metrics(1.0)) is None
    [(step, split, scalars)] = reporter._record.lines
    assert (step, split) == (4, "train")
    assert (scalars["loss"], scalars["error"], scalars["lr"], scalars["epoch"]) == (4.0, 0.5, 0.05, 4 * 32 / 64)
    assert reporter.recent == []


def test_a_step_that_diverges_is_the_last_that_is_recorded(reporter):
    reporter._config.stop_at_divergence = True
    assert reporter.steps(2, metrics(1.0, math.nan, 1.0)) == 4
    [(step, _, scalars)] = reporter._record.lines
    assert step == 4
    assert math.isnan(scalars["loss"])


def test_a_run_may_continue_after_a_non_finite_loss(reporter):
    reporter._config.stop_at_divergence = False
    assert reporter.steps(2, metrics(math.inf)) is None
