"""The plane around a net, against losses at single places and the norms of its filters."""

import jax
import numpy as np
import optax
import pytest

from resnet_jax import models
from resnet_jax.instruments import landscape
from tests.instruments.subjects import shaken_subject

pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def subject():
    return shaken_subject(examples=10, block="single", depth=8)


@pytest.fixture
def direction(subject):
    return landscape.filter_normalised(subject.variables["params"], np.random.default_rng(0))


def test_filters_of_a_direction_have_the_norms_of_the_nets_filters(subject, direction):
    kernels = 0
    for path, leaf in models.unstack(subject.variables["params"]).items():
        drawn = models.unstack(direction)[path]
        if path[-1] != "kernel":
            assert not np.any(drawn)
            continue
        kernels += 1
        for filter_, drawn_filter in zip(np.moveaxis(leaf, -1, 0), np.moveaxis(drawn, -1, 0), strict=True):
            np.testing.assert_allclose(np.linalg.norm(drawn_filter), np.linalg.norm(filter_), rtol=1e-5)
    assert kernels == 8


def test_stacked_blocks_are_scaled_one_by_one(subject, direction):
    params = jax.tree.map(np.copy, subject.variables["params"])
    params = jax.tree.map(lambda leaf: np.repeat(leaf, 2, axis=0), {"stage1": {"rest": params["stage1"]["rest"]}})
    params["stage1"]["rest"]["conv1"]["kernel"][1] *= 100
    drawn = landscape.filter_normalised(params, np.random.default_rng(0))["stage1"]["rest"]["conv1"]["kernel"]
    small, large = (np.sqrt(np.sum(each**2, axis=(0, 1, 2))) for each in drawn)
    np.testing.assert_allclose(large, 100 * small, rtol=1e-4)
    assert not np.allclose(drawn[1], 100 * drawn[0])


def test_directions_are_gaussian_and_of_the_seed(subject, direction):
    params = subject.variables["params"]
    other = landscape.filter_normalised(params, np.random.default_rng(1))
    again = landscape.filter_normalised(params, np.random.default_rng(0))
    jax.tree.map(np.testing.assert_array_equal, direction, again)
    one, other = (np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(each)]) for each in (direction, other))
    assert abs(one @ other) < 0.03 * np.linalg.norm(one) * np.linalg.norm(other)


def test_the_middle_is_the_net_and_the_rest_is_around_it(subject, monkeypatch):
    monkeypatch.setattr(landscape, "SIDE", 3)
    result = landscape.measure(subject)
    losses = np.array(result["losses"])
    assert (losses.shape, list(result["alphas"]), result["examples"]) == ((3, 3), [-1, 0, 1], 8)
    images, labels = subject.train.first(8)
    params = subject.variables["params"]
    random = subject.random(landscape.DIRECTIONS)
    one, other = (landscape.filter_normalised(params, random) for _ in range(2))
    for at, place in {(1, 1): params, (2, 1): add(params, one), (1, 2): add(params, other)}.items():
        logits, _ = subject.net.outputs({**subject.variables, "params": place}, images, train=False)
        expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        np.testing.assert_allclose(losses[at], expected, rtol=1e-4)
    assert len(set(losses.ravel())) == 9


def add(one, other):
    return jax.tree.map(np.add, one, other)


def test_of_a_quadratic_loss_it_is_the_paraboloid(subject, monkeypatch):
    target = subject.variables["params"]

    def squared_distance(_, params):
        return sum(
            np.sum((one - other) ** 2) for one, other in zip(*map(jax.tree.leaves, (params, target)), strict=True)
        )

    monkeypatch.setattr(landscape, "mean_loss", squared_distance)
    result = landscape.measure(subject)
    kernels = sum(np.sum(leaf**2) for path, leaf in models.unstack(target).items() if path[-1] == "kernel")
    x, y = np.meshgrid(result["alphas"], result["alphas"])
    # Two directions of many numbers are orthogonal but for chance.
    np.testing.assert_allclose(result["losses"], kernels * (x**2 + y**2), atol=0.05 * kernels, rtol=0.02)
