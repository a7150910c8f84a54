"""Outputs over a set, against one pass of the whole set."""

import numpy as np
import pytest

from resnet_jax.instruments import features
from tests.instruments.subjects import given_subject, images


@pytest.mark.parametrize(("count", "size"), [(12, 4), (13, 4), (3, 4), (4, 4), (1, 1)])
def test_batches_have_one_size_and_every_image_once(count, size):
    batches = list(features.batches(count, size))
    assert {len(chosen) for chosen, _ in batches} == {min(count, size)}
    assert np.concatenate([chosen[:new] for chosen, new in batches]).tolist() == list(range(count))
    # Nor is one image in a batch twice, for its statistics.
    assert all(len(set(chosen)) == len(chosen) for chosen, _ in batches)


@pytest.mark.parametrize("batch", [3, 10, 50])
def test_a_set_in_batches_is_the_set_at_once(batch):
    train = images(10)
    subject = given_subject(lambda x, _: {"a": x, "b": 2 * x[:, ::2]}, train, batch=batch)
    found = features.of_images(subject, train.images, features.averaged)
    np.testing.assert_array_equal(found["a"], train.images.mean((1, 2)))
    np.testing.assert_array_equal(found["b"], 2 * train.images[:, ::2].mean((1, 2)))
    assert len(subject.net.shapes) == 1


@pytest.mark.parametrize("has_running_statistics", [True, False])
def test_statistics_are_running_ones_as_soon_as_they_are_of_the_layers(has_running_statistics):
    train = images(4)
    subject = given_subject(lambda x, _: {"a": x}, train, has_running_statistics=has_running_statistics)
    features.of_images(subject, train.images, features.flattened)
    assert subject.net.modes == [not has_running_statistics]


def test_rows_that_are_alike_but_for_rounding_have_no_spread():
    rows = np.tile(np.float32([0.1, 0.7, 1.3]), (7, 1))
    assert not features.centred(rows).any()
    noise = np.random.default_rng(0).choice([-1, 0, 1], size=rows.shape)
    assert not features.centred(rows + np.spacing(rows) * noise / 4).any()
    small = rows + np.float32(1e-5) * noise
    np.testing.assert_allclose(features.centred(small), small.astype(np.float64) - small.astype(np.float64).mean(0))
