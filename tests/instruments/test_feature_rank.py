"""Feature rank and cosine, against closed forms and the singular values themselves."""

import math

import numpy as np
import pytest
import scipy.stats

from resnet_jax.instruments import feature_rank
from tests.instruments.subjects import given_subject, images


def rows_of(spectrum, count=20, width=30, mean=3.0):
    """Return rows that less their mean have the singular values ``spectrum``."""
    random = np.random.default_rng(0)
    left = random.normal(size=(count, len(spectrum)))
    left = np.linalg.qr(left - left.mean(0))[0]
    right = np.linalg.qr(random.normal(size=(width, len(spectrum))))[0]
    return (left * spectrum @ right.T + mean).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_directions_of_equal_spread_are_counted(count):
    assert feature_rank.entropy_rank(rows_of([0.3] * count)) == pytest.approx(count, rel=1e-4)


def test_directions_count_by_the_entropy_of_their_spread():
    share = np.array([9, 4, 1]) / 14
    assert feature_rank.entropy_rank(rows_of([3, 2, 1])) == pytest.approx(math.exp(-(share @ np.log(share))), rel=1e-4)


def test_the_rank_is_the_entropy_of_the_singular_values():
    rows = np.random.default_rng(0).exponential(size=(50, 200)).astype(np.float32)
    spectrum = np.linalg.svd(rows - rows.mean(0, dtype=np.float64), compute_uv=False)
    expected = np.exp(scipy.stats.entropy(spectrum**2))
    assert feature_rank.entropy_rank(rows) == pytest.approx(expected)
    assert feature_rank.entropy_rank(1e-6 * rows) == pytest.approx(expected)
    assert expected < 49


def test_alike_outputs_have_no_rank():
    assert feature_rank.entropy_rank(np.tile(np.float32([0.1, 0.7]), (7, 1))) == 0


def test_both_are_of_whole_maps_of_up_to_256_images():
    train = images(300)
    found = feature_rank.measure(
        given_subject(lambda x, _: {"own": x, "alike": np.ones_like(x) * (1 + x[:, :1, :1])}, train, batch=100)
    )
    flat = train.images[:256].reshape(256, -1)
    assert found["images"] == 256
    assert found["rank"] == [feature_rank.entropy_rank(flat), pytest.approx(1)]
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    pairs = np.triu_indices(256, 1)
    np.testing.assert_allclose(found["cosine"][0], (unit @ unit.T)[pairs].mean(), atol=1e-6)
    sign = np.sign(1 + train.images[:256, 0, 0, 0])
    np.testing.assert_allclose(found["cosine"][1], np.outer(sign, sign)[pairs].mean(), rtol=1e-5)
