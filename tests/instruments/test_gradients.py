"""Gradients over depth, against closed forms and brute force."""

import itertools
import math
import types

import numpy as np
import pytest

from configs import recipes
from resnet_jax import models
from resnet_jax.instruments import Settings, Subject, gradients, net_of
from resnet_jax.instruments.gradients import growth_within, mean_cosine, root_mean_square
from tests.instruments.subjects import images, noise


def test_the_mean_cosine_is_the_mean_over_all_pairs():
    rows = np.random.default_rng(0).normal(1, 2, (7, 3, 2)).astype(np.float32)
    flat = rows.reshape(7, -1)
    pairs = [
        one @ other / np.linalg.norm(one) / np.linalg.norm(other) for one, other in itertools.combinations(flat, 2)
    ]
    assert mean_cosine(rows) == pytest.approx(np.mean(pairs), rel=1e-5)
    assert mean_cosine(np.ones((7, 6), np.float32)) == pytest.approx(1)
    assert mean_cosine(np.eye(7, 6, dtype=np.float32)) == pytest.approx(0, abs=1e-6)
    pair = np.zeros((7, 6), np.float32)
    pair[:2, 0] = 1
    assert mean_cosine(pair) == pytest.approx(1 / math.comb(7, 2))  # Rows of zeros are unrelated.


def test_growth_is_measured_only_within_stages():
    stages = ["stage1"] * 4 + ["stage2"] * 3 + ["stage3"]
    norms = np.array([8, 4, 2, 1, 400, 200, 100, 7.0])
    assert growth_within(norms, stages) == pytest.approx(2)
    assert math.isnan(growth_within(np.array([1, 0, 1.0]), ["stage1"] * 3))
    assert math.isnan(growth_within(np.array([1, 2.0]), ["stage1", "stage2"]))


def test_norms_are_root_mean_squares_over_images():
    assert root_mean_square(np.array([[[3, 4]], [[0, 0]]])) == pytest.approx(math.sqrt(25 / 2))


def test_a_measurement_has_every_quantity_for_every_block():
    random = np.random.default_rng(0)
    of_loss, of_logits = ({name: random.normal(size=(4, 2, 2, 3)) for name in "abc"} for _ in range(2))
    cotangents = []

    def cotangent_gradients(variables, images, cotangent, train):
        assert train
        cotangents.append(cotangent)
        return of_logits

    net = types.SimpleNamespace(
        blocks=[types.SimpleNamespace(name=name, stage="stage1") for name in of_loss],
        num_classes=5,
        convolutions_per_block=2,
        require_blocks=lambda least: None,
        output_gradients=lambda variables, images, labels, train: (1.5 if train else None, of_loss, None),
        cotangent_gradients=cotangent_gradients,
    )
    sets = images(8), images(8)
    result, again = (gradients.measure(Subject(net, {}, 0, False, *sets, Settings(batch=4))) for _ in range(2))
    norms = [math.sqrt((each**2).sum() / 4) for each in of_loss.values()]
    slope = np.polyfit(range(3), np.log(norms), 1)[0]
    assert result["loss"] == 1.5
    np.testing.assert_allclose(result["norm"], norms)
    np.testing.assert_allclose(result["relative"], np.array(norms) / norms[-1])
    assert result["a_layer"] == pytest.approx(math.exp(-slope / 2))
    for key, given in (("cosine", of_loss), ("cosine_of_net", of_logits)):
        assert result[key] == [pytest.approx(float(mean_cosine(each))) for each in given.values()]
    assert (cotangents[0].shape, cotangents[0].dtype) == ((5,), np.float32)
    np.testing.assert_array_equal(*cotangents)
    assert again["cosine_of_net"] == result["cosine_of_net"]


@pytest.mark.slow
def test_in_wide_plain_nets_of_fully_connected_layers_gradients_grow_as_in_theory():
    """By 1.211 a layer (Yang et al. 2019, theorem 8): of one pixel, images make layers fully connected, 256 wide."""
    net = net_of(recipes.digits(depth=14, residual=False, widening=4, block="single").model, 10, (1, 1, 8))
    variables = models.initial_variables(net.model, 0, (1, 1, 8))
    labels = np.arange(256) % 10
    _, found, _ = net.output_gradients(variables, noise(256, shape=(1, 1, 8)), labels, train=True)
    wide = [root_mean_square(found[block.name]) for block in net.blocks if block.shape == (1, 1, 256)]
    growth = growth_within(np.array(wide), ["stage3"] * len(wide))
    assert len(wide) == 4
    assert growth == pytest.approx(math.sqrt(math.pi / (math.pi - 1)), rel=0.02)


@pytest.mark.slow
def test_in_wide_plain_nets_on_large_maps_gradients_grow_as_in_theory():
    """By 1.211 a layer (Yang et al. 2019), a result for fully connected layers.

    Here on maps of 32 and 16 pixels a side with 64 and 128 channels, within 3 %. On maps of 8 and 4, where much of what
    a kernel sees is padding, it is less at any width: 1.17 on the digits with 16 times the channels.
    """
    net = net_of(recipes.digits(depth=14, residual=False, widening=4, block="single").model, 10, (32, 32, 1))
    variables = models.initial_variables(net.model, 0, (32, 32, 1))
    sets = [images(16, shape=(32, 32, 1), classes=10)] * 2
    result = gradients.measure(Subject(net, variables, 0, False, *sets, Settings(16, 16)))
    stages = [block.stage for block in net.blocks]
    assert stages[:8] == ["stage1"] * 4 + ["stage2"] * 4
    assert growth_within(result["norm"][:8], stages[:8]) == pytest.approx(math.sqrt(math.pi / (math.pi - 1)), rel=0.03)
    assert net.convolutions_per_block == 1
