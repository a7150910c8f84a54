"""The optimiser and its learning rate, against the paper's text and a formula written out."""

import signal

import jax
import numpy as np
import optax
import pytest
from flax import traverse_util

from configs import recipes
from resnet_jax import models
from resnet_jax.config import default
from resnet_jax.rundir import read_metrics
from resnet_jax.training import optimizer, train
from tests.promises.runs import at_step, figures, last_state
from tests.training.tiny import with_tiny_net

pytestmark = pytest.mark.usefixtures("quick_compiling")


def paper_rate(depth):
    config = recipes.cifar(depth, residual=True)
    return optimizer.learning_rate(config.optimizer, depth, config.steps)


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 0.1), (31_999, 0.1), (32_000, 0.01), (47_999, 0.01), (48_000, 0.001), (63_999, 0.001)]
)
def test_the_rate_is_the_papers(step, rate):
    assert paper_rate(56)(step) == pytest.approx(rate)


OLD_MILESTONES = [
    (recipes.cifar, 64_000, (32_000, 48_000)),
    (recipes.imagenet, 600_000, (200_000, 400_000)),
    (recipes.folder, 10_000, ()),
    (recipes.digits, 200, (100, 150)),
]


@pytest.mark.parametrize(("recipe", "steps", "milestones"), OLD_MILESTONES)
def test_the_rate_of_every_recipe_is_that_of_its_milestones_in_steps(recipe, steps, milestones):
    config = recipe(50, residual=True)
    assert config.steps == steps
    rate = optimizer.learning_rate(config.optimizer, 50, steps)
    drops = dict.fromkeys(milestones, config.optimizer.factor)
    expected = optax.piecewise_constant_schedule(config.optimizer.learning_rate, drops)
    every = np.arange(steps)
    np.testing.assert_array_equal(jax.vmap(rate)(every), jax.vmap(expected)(every))


@pytest.mark.parametrize(("steps", "rates"), [(1, [1.0]), (2, [1, 0.1]), (3, [1, 1, 0.01]), (4, [1, 1, 0.1, 0.01])])
def test_milestones_may_be_one_step_in_a_short_run(steps, rates):
    config = default().optimizer
    rate = optimizer.learning_rate(config, 20, steps)
    assert [float(rate(step)) for step in range(steps)] == pytest.approx([0.1 * each for each in rates])


@pytest.mark.parametrize("depth", [110, 1202])
@pytest.mark.parametrize(("step", "rate"), [(0, 0.01), (399, 0.01), (400, 0.1), (31_999, 0.1), (32_000, 0.01)])
def test_very_deep_nets_are_warmed_up(depth, step, rate):
    assert paper_rate(depth)(step) == pytest.approx(rate)
    assert jax.jit(paper_rate(depth))(step) == pytest.approx(rate)


def test_updates_are_sgd_with_momentum_and_decay_coupled_to_the_gradient():
    config = default().optimizer
    sgd = optimizer.descent(config, optimizer.learning_rate(config, 20, steps=6))
    random = np.random.default_rng(0)
    w = random.normal(size=5)
    params, velocity = {"bn": {"scale": w.astype(np.float32)}}, np.zeros(5)
    state = sgd.init(params)
    for step in range(4):
        gradient = random.normal(size=5)
        updates, state = sgd.update({"bn": {"scale": gradient.astype(np.float32)}}, state, params)
        params = optax.apply_updates(params, updates)
        velocity = 0.9 * velocity + gradient + 1e-4 * w
        w = w - (0.1 if step < 3 else 0.01) * velocity
        np.testing.assert_allclose(params["bn"]["scale"], w, rtol=1e-5)


@pytest.mark.parametrize("decay_vectors", [True, False])
def test_weight_decay_is_of_all_parameters_or_only_of_kernels_however_blocks_are_stacked(decay_vectors):
    config = default().optimizer
    config.decay_vectors = decay_vectors
    model = models.build({"depth": 14, "parametrization": "dirac"}, 10)
    params = models.initial_variables(model, 0, (8, 8, 1))["params"]
    descent = optimizer.descent(config, optimizer.learning_rate(config, 14, steps=6))
    updates, _ = descent.update(jax.tree.map(np.zeros_like, params), descent.init(params), params)
    leaves = traverse_util.flatten_dict(params)
    for path, update in traverse_util.flatten_dict(updates).items():
        decay = 1e-4 if decay_vectors or path[-1] == "kernel" else 0
        np.testing.assert_allclose(update, -0.1 * decay * leaves[path], rtol=1e-5, atol=1e-12)


def trajectory(config, gradients, start):
    """Return the parameters after each of ``gradients``, computed in float64, and the last state."""
    with jax.enable_x64(True):
        descent = optimizer.descent(config, optimizer.learning_rate(config, 20, steps=len(gradients)))
        params = {"scale": start}
        state, passed = descent.init(params), []
        for gradient in gradients:
            updates, state = descent.update({"scale": gradient}, state, params, value=1.0)
            params = optax.apply_updates(params, updates)
            passed.append(np.asarray(params["scale"]))
        return passed, jax.device_get(state)


@pytest.fixture
def gradients():
    return np.random.default_rng(0).normal(size=(6, 5))


def test_nesterov_momentum_is_that_of_torch(gradients):
    torch = pytest.importorskip("torch")
    config = default().optimizer
    config.nesterov, config.weight_decay, config.milestones = True, 5e-4, ()
    start = np.linspace(-1, 1, 5)
    w = torch.nn.Parameter(torch.from_numpy(start.copy()))
    theirs = torch.optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    ours, _ = trajectory(config, gradients, start)
    for gradient, found in zip(gradients, ours, strict=True):
        w.grad = torch.from_numpy(gradient)
        theirs.step()
        np.testing.assert_allclose(found, w.detach().numpy(), rtol=1e-7, atol=1e-8)
    config.nesterov = False
    assert np.abs(trajectory(config, gradients, start)[0][-1] - ours[-1]).max() > 1e-3


@pytest.mark.parametrize(("epsilon", "momentum"), [(1.0, 0.9), (1e-3, 0.0)])
def test_rmsprop_is_tensorflows(gradients, epsilon, momentum):
    """tf.train.RMSPropOptimizer: ms = 1, mom = 0; mom <- momentum mom + lr g / sqrt(ms + epsilon); w <- w - mom."""
    config = default().optimizer
    config.name, config.rmsprop_decay, config.rmsprop_epsilon = "rmsprop", 0.8, epsilon
    config.momentum, config.weight_decay = momentum, 1e-2
    w = start = np.linspace(-1, 1, 5)
    ms, mom = np.ones(5), np.zeros(5)
    ours, _ = trajectory(config, gradients, start)
    for step, (gradient, found) in enumerate(zip(gradients, ours, strict=True)):
        g = gradient + 1e-2 * w
        ms = 0.8 * ms + 0.2 * g**2
        rate = 0.1 if step < 3 else 0.01 if step < 4 else 0.001  # The milestones of 6 steps are 3 and 4.
        mom = momentum * mom + rate * g / np.sqrt(ms + epsilon)
        w = w - mom
        np.testing.assert_allclose(found, w, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("decay_steps", [1, 7, 41, 782])
def test_an_exponential_rate_falls_exactly_at_multiples_of_its_steps(decay_steps):
    config = default().optimizer
    config.schedule, config.factor, config.decay_steps = "exponential", 0.94, decay_steps
    config.milestones = (0.25, 0.5)  # Not read.
    rate = optimizer.learning_rate(config, 20, steps=10)
    multiples = decay_steps * np.arange(60)
    steps = np.sort(np.concatenate([multiples, multiples + decay_steps - 1]))
    expected = 0.1 * 0.94 ** (steps // decay_steps)
    np.testing.assert_allclose(jax.jit(jax.vmap(rate))(steps.astype(np.int32)), expected, rtol=1e-5)
    np.testing.assert_allclose([float(rate(int(step))) for step in steps[:9]], expected[:9], rtol=1e-6)
    assert optimizer.drops(config, 10) == []


def test_an_exponential_rate_is_warmed_and_ramped_up_as_others_are():
    config = default().optimizer
    config.schedule, config.factor, config.decay_steps = "exponential", 0.5, 4
    config.warmup_steps, config.rampup_fraction, config.rampup_steps = 2, 0.5, 4
    rates = [float(optimizer.learning_rate(config, 110, steps=10)(step)) for step in (0, 1, 2, 3, 4, 8)]
    assert rates == pytest.approx([0.01 * 0.5, 0.01 * 0.625, 0.1 * 0.75, 0.1 * 0.875, 0.05, 0.025])


@pytest.mark.parametrize("name", optimizer.OPTIMIZERS)
@pytest.mark.parametrize("schedule", optimizer.SCHEDULES)
def test_the_average_is_of_the_parameters_after_each_update(gradients, name, schedule):
    config = default().optimizer
    config.name, config.schedule, config.average_decay = name, schedule, 0.7
    config.factor, config.plateau_window, config.plateau_patience = 0.5, 1, 1
    average = start = np.linspace(-1, 1, 5)
    passed, state = trajectory(config, gradients, start)
    for params in passed:
        average = 0.7 * average + 0.3 * params
    found = optimizer.evaluated_params({"scale": passed[-1]}, state)
    np.testing.assert_allclose(found["scale"], average, rtol=1e-7)
    assert np.abs(average - passed[-1]).max() > 1e-3
    # The loss never changes, so that every window after the first is a plateau.
    assert optimizer.plateau_scale(state) == (0.5**5 if schedule == "plateau" else 1)
    config.average_decay = 0.0
    without, state = trajectory(config, gradients, start)
    np.testing.assert_array_equal(without, passed)
    params = {"scale": without[-1]}
    assert optimizer.evaluated_params(params, state) is params
    assert optimizer.plateau_scale(state) == (0.5**5 if schedule == "plateau" else 1)


def test_the_average_of_constant_parameters_equals_them_to_the_bit():
    """In float32, where 0.9999 and 1 - 0.9999 do not sum to 1."""
    config = default().optimizer
    config.learning_rate, config.average_decay = 0.0, 0.9999
    descent = optimizer.descent(config, optimizer.learning_rate(config, 20, steps=6))
    params = {"scale": np.random.default_rng(0).normal(size=100).astype(np.float32)}

    def step(state, _):
        _, state = descent.update(jax.tree.map(np.zeros_like, params), state, params)
        return state, None

    state, _ = jax.jit(lambda state: jax.lax.scan(step, state, length=1000))(descent.init(params))
    np.testing.assert_array_equal(optimizer.evaluated_params(None, state)["scale"], params["scale"])


def plateau_scales(losses, window, patience, factor):
    """Return the factor of the rate in each step, in float64: the rule written out."""
    best, worse, scale, scales = np.inf, 0, 1.0, []
    for step in range(1, len(losses) + 1):
        if step % window == 0:
            mean = np.mean(np.asarray(losses[step - window : step], np.float64))
            better = mean < (1 - 1e-4) * best
            best, worse = (mean, 0) if better else (best, worse + 1)
            if worse == patience:
                scale, worse = scale * factor, 0
        scales.append(scale)
    return scales


@pytest.mark.parametrize(("window", "patience", "factor"), [(1, 1, 0.5), (5, 2, 0.1), (3, 4, 0.3)])
@pytest.mark.parametrize("warmed_up", [False, True])
def test_plateaus_of_the_loss_divide_the_rate(window, patience, factor, warmed_up):
    config = default().optimizer
    config.schedule, config.plateau_window, config.plateau_patience = "plateau", window, patience
    config.factor, config.momentum, config.weight_decay = factor, 0.0, 0.0
    config.warmup_steps = 4
    rate = optimizer.learning_rate(config, 110 if warmed_up else 20, steps=6)
    sgd = optimizer.descent(config, rate)
    random = np.random.default_rng(0)
    losses = np.repeat(np.exp([0, -1, -1, -1, -2, -2, -2.1, -2.1]), 12) + 1e-3 * random.normal(size=96)
    scales = plateau_scales(losses.astype(np.float32), window, patience, factor)
    assert len(set(scales)) > 2
    update = jax.jit(sgd.update)
    params = {"scale": np.ones(2, np.float32)}
    state = sgd.init(params)
    for step, (loss, scale) in enumerate(zip(losses, scales, strict=True)):
        updates, state = update({"scale": np.ones(2, np.float32)}, state, params, value=np.float32(loss))
        base = 0.01 if warmed_up and step < 4 else 0.1
        np.testing.assert_allclose(updates["scale"], -base * scale, rtol=1e-5)
        assert optimizer.plateau_scale(state) == pytest.approx(scale, rel=1e-5)
        assert rate(step) == pytest.approx(base)


@pytest.fixture
def plateaus(config, registrations):
    """Return a run whose rate is divided after every window that does not improve on the best."""
    with_tiny_net(config)
    config.optimizer.schedule, config.optimizer.factor = "plateau", 0.5
    config.optimizer.plateau_window, config.optimizer.plateau_patience = 2, 1
    config.optimizer.learning_rate = 3.0  # So high that the loss rises within eight steps.
    config.log_every = 1
    return config


@pytest.mark.parametrize("mapper", ["shard_map", "pmap"])
def test_a_run_records_the_rate_that_plateaus_have_left(plateaus, tmp_path, mapper):
    plateaus.parallel.mapper = mapper
    plateaus.steps_per_dispatch = 5
    train(plateaus, tmp_path / "run")
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    losses = [line["loss"] for line in lines if line["split"] == "train"]
    scales = plateau_scales(losses, window=2, patience=1, factor=0.5)
    assert scales[0] == 1 > scales[-1]
    assert [line["lr"] for line in lines] == [float(f"{3 * scales[line['step'] - 1]:.6g}") for line in lines]


@pytest.mark.slow
def test_a_stopped_run_knows_its_plateaus(plateaus, tmp_path, monkeypatch):
    plateaus.log_every = 4  # After the step at which it stops, so that the first record is of both parts.
    train(plateaus, tmp_path / "whole")
    with monkeypatch.context() as patch:
        at_step(patch, 8, lambda: signal.raise_signal(signal.SIGTERM))
        assert train(plateaus, tmp_path / "parts")["steps"] == 9
    stopped = last_state(plateaus, tmp_path / "parts").opt_state[-1]
    assert stopped.count == 1  # Half a window.
    assert 0 < stopped.scale < 1
    assert np.isfinite(stopped.best_value)
    assert train(plateaus, tmp_path / "parts")["status"] == "finished"
    assert figures(tmp_path / "parts") == figures(tmp_path / "whole")
    whole, parts = (last_state(plateaus, tmp_path / name) for name in ("whole", "parts"))
    jax.tree.map(np.testing.assert_array_equal, parts, whole)


def test_a_stopped_run_continues_with_its_mean_squares_and_its_average(plateaus, tmp_path, monkeypatch):
    plateaus.optimizer.name, plateaus.optimizer.average_decay = "rmsprop", 0.8
    plateaus.optimizer.nesterov = True
    plateaus.optimizer.learning_rate = 0.03
    plateaus.data.std, plateaus.data.mean = "channel", "channel"
    train(plateaus, tmp_path / "whole")
    with monkeypatch.context() as patch:
        at_step(patch, 8, lambda: signal.raise_signal(signal.SIGTERM))
        assert train(plateaus, tmp_path / "parts")["steps"] == 9
    assert train(plateaus, tmp_path / "parts")["status"] == "finished"
    assert figures(tmp_path / "parts") == figures(tmp_path / "whole")
    whole, parts = (last_state(plateaus, tmp_path / name) for name in ("whole", "parts"))
    jax.tree.map(np.testing.assert_array_equal, parts, whole)
    average = optimizer.evaluated_params(whole.params, whole.opt_state)
    assert jax.tree.structure(average) == jax.tree.structure(whole.params)
    assert all(np.any(one != other) for one, other in zip(*map(jax.tree.leaves, (average, whole.params)), strict=True))
