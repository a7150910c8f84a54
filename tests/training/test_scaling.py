"""The linear scaling rule, for recipes whose batch is given for each device."""

import pytest

from configs import recipes
from resnet_jax.config import flatten
from resnet_jax.errors import UserError
from resnet_jax.rundir import read_config, read_metrics
from resnet_jax.safe_files import read_json
from resnet_jax.training import first_layer, optimizer, scaling, train
from tests.training.tiny import with_tiny_net

pytestmark = pytest.mark.usefixtures("quick_compiling")


def recipe(per_device_batch_size, config=None):
    config = config or recipes.imagenet(50, residual=True)
    config.per_device_batch_size = per_device_batch_size
    return config


def changes(config, devices):
    """Return the fields that resolving changes, with their new values."""
    old, new = flatten(config.to_dict()), flatten(scaling.resolved(config, devices).to_dict())
    return {name: value for name, value in new.items() if value != old[name]}


def test_without_a_batch_for_each_device_the_recipe_is_unchanged():
    config = recipes.imagenet(50, residual=True)
    assert scaling.resolved(config, 8) is config


def test_the_recipes_own_batch_changes_nothing():
    assert changes(recipe(32), 8) == {}


def test_a_larger_batch_has_the_same_epochs_and_is_ramped_up():
    """32 images on each of 256 devices: Goyal et al.'s batch of 8192, rate 3.2."""
    assert changes(recipe(32), 256) == {
        "batch_size": 8192,
        "steps": 18_750,
        "eval_every": 300,  # 312.5, to hundreds.
        "checkpoint_every": 300,
        "optimizer.learning_rate": pytest.approx(3.2),
        "optimizer.plateau_window": 156,
        "optimizer.decay_steps": 24,
        "optimizer.warmup_learning_rate": pytest.approx(0.32),
        "optimizer.warmup_steps": 12,
        "optimizer.rampup_fraction": 1 / 32,
        "optimizer.rampup_steps": 782,  # 5 epochs are 781.96.
    }


def test_a_smaller_batch_is_not_ramped_up():
    found = changes(recipe(32, recipes.cifar(20, residual=True)), 1)
    assert (found["batch_size"], found["steps"]) == (32, 256_000)
    assert "optimizer.milestones" not in found
    assert found["optimizer.learning_rate"] == pytest.approx(0.025)
    assert found["eval_every"] == 8_000
    assert "optimizer.rampup_fraction" not in found


def test_an_average_of_parameters_remembers_as_many_examples():
    config = recipe(32)
    config.optimizer.average_decay = 0.9999
    assert changes(config, 32)["optimizer.average_decay"] == pytest.approx(0.9999**4)
    assert changes(config, 2)["optimizer.average_decay"] == pytest.approx(0.9999**0.25)
    assert "optimizer.average_decay" not in changes(recipe(32), 32)  # 0: no average.


def test_lengths_are_at_least_a_step_and_none_stays_none():
    config = recipe(128, recipes.digits(8, residual=True))
    config.optimizer.warmup_steps = 0
    found = changes(config, 512)
    assert (found["steps"], found["optimizer.rampup_steps"], found["optimizer.plateau_window"]) == (1, 1, 1)
    assert (found["eval_every"], found["checkpoint_every"]) == (10, 10)
    assert "optimizer.warmup_steps" not in found


def test_a_rate_may_be_an_integer():
    config = recipe(64)
    with config.ignore_type():
        config.optimizer.learning_rate = 1
    assert changes(config, 2)["optimizer.learning_rate"] == 0.5


@pytest.mark.parametrize("devices", [1, 8, 1024])
def test_a_resolved_config_resolves_to_itself(devices):
    once = scaling.resolved(recipe(32), devices)
    assert scaling.resolved(once, devices) == once


def test_the_rate_rises_from_the_recipes_to_its_multiple():
    config = scaling.resolved(recipe(32), 256)
    rate = optimizer.learning_rate(config.optimizer, 50, config.steps)
    steps = [0, 1, 391, 781, 782, 6_249, 6_250, 12_500]
    rises = [0.1 + 3.1 * min(step, 782) / 782 for step in steps]
    expected = [rise * drop for rise, drop in zip(rises, [1, 1, 1, 1, 1, 1, 0.1, 0.01], strict=True)]
    assert [float(rate(step)) for step in steps] == pytest.approx(expected, rel=1e-5)


def test_very_deep_nets_are_ramped_up_from_their_warm_up():
    config = scaling.resolved(recipe(128, recipes.cifar(110, residual=True)), 4)
    rate = optimizer.learning_rate(config.optimizer, 110, config.steps)
    assert [config.optimizer.warmup_steps, config.optimizer.rampup_steps] == [100, 488]
    after_warm_up = 0.1 + 0.3 * 100 / 488
    assert [float(rate(step)) for step in (0, 100, 488)] == pytest.approx([0.01, after_warm_up, 0.4])


@pytest.mark.parametrize(
    ("per_device_batch_size", "message"),
    [
        (0, r"config\.per_device_batch_size=0 must be at least 1\."),
        (
            2**30,
            r"config\.per_device_batch_size=1073741824 on 8 devices turns batches of 128 into 8589934592, and then "
            r"config\.batch_size=8589934592 must be at most",
        ),
    ],
)
def test_a_batch_that_cannot_be_is_reported(per_device_batch_size, message):
    with pytest.raises(UserError, match=message):
        scaling.resolved(recipe(per_device_batch_size, recipes.digits(8, residual=True)), 8)


def test_the_batch_need_not_be_divisible_if_it_is_not_trained_on():
    assert scaling.resolved(recipe(32), 3).batch_size == 96


def test_a_run_records_the_scaled_recipe_and_is_found_by_the_same_config(config, registrations, tmp_path):
    with_tiny_net(config).per_device_batch_size = 8
    config.log_every = 2
    summary = train(config, tmp_path / "run")
    recorded = flatten(read_config(tmp_path / "run").config.to_dict())
    assert (recorded["batch_size"], recorded["steps"]) == (16, 24)
    assert recorded["optimizer.learning_rate"] == pytest.approx(0.015)
    assert summary["steps"] == 24
    last = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]
    assert last["epoch"] == pytest.approx(24 * 16 / 1500, abs=1e-3)
    assert train(config, tmp_path / "run") == summary
    assert len(read_json(tmp_path / "run" / "environment.json")) == 1
    config.per_device_batch_size = 4
    with pytest.raises(UserError, match=r"holds a run of another config, differing in config\.steps \(24 there, "):
        train(config, tmp_path / "run")


def test_a_diverged_run_is_examined_as_it_was_trained(config, registrations, tmp_path):
    with_tiny_net(config).per_device_batch_size = 2
    config.optimizer.learning_rate = 1e30
    summary = train(config, tmp_path / "run")
    assert summary["status"] == "diverged"
    assert first_layer(config, tmp_path / "run").startswith(("Step 1: ", "Step 2: "))
