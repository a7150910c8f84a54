"""The optimiser and its learning rate, against the paper's text and a formula written out."""

import jax
import numpy as np
import optax
import pytest

from configs import recipes
from resnet_jax.training import optimizer


def paper_rate(depth):
    return optimizer.learning_rate(recipes.cifar(depth, residual=True).optimizer, depth)


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 0.1), (31_999, 0.1), (32_000, 0.01), (47_999, 0.01), (48_000, 0.001), (63_999, 0.001)]
)
def test_the_rate_is_the_papers(step, rate):
    assert paper_rate(56)(step) == pytest.approx(rate)


@pytest.mark.parametrize("depth", [110, 1202])
@pytest.mark.parametrize(("step", "rate"), [(0, 0.01), (399, 0.01), (400, 0.1), (31_999, 0.1), (32_000, 0.01)])
def test_very_deep_nets_are_warmed_up(depth, step, rate):
    assert paper_rate(depth)(step) == pytest.approx(rate)
    assert jax.jit(paper_rate(depth))(step) == pytest.approx(rate)


def test_updates_are_sgd_with_momentum_and_decay_coupled_to_the_gradient():
    config = recipes.base().optimizer
    config.milestones = (3,)
    sgd = optimizer.sgd(config, optimizer.learning_rate(config, 20))
    random = np.random.default_rng(0)
    w = random.normal(size=5)
    params, velocity = {"bn": {"scale": w.astype(np.float32)}}, np.zeros(5)
    state = sgd.init(params)
    for step in range(6):
        gradient = random.normal(size=5)
        updates, state = sgd.update({"bn": {"scale": gradient.astype(np.float32)}}, state, params)
        params = optax.apply_updates(params, updates)
        velocity = 0.9 * velocity + gradient + 1e-4 * w
        w = w - (0.1 if step < 3 else 0.01) * velocity
        np.testing.assert_allclose(params["bn"]["scale"], w, rtol=1e-5)
