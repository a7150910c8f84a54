"""Alignment of blocks, against the mean over all four images and the definition on a whole set."""

import itertools

import numpy as np
import pytest

from resnet_jax.errors import UserError
from resnet_jax.instruments import similarity
from tests.instruments.subjects import given_subject, images


def related(count, seed=0, width=12):
    """Return rows of two blocks that have something in common."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(width, 2 * width))
    common = random.normal(size=(count, width))
    return common + 1, common @ mixing + 5 * random.normal(size=(count, 2 * width)) - 2


def defined(x, y):
    """Return the alignment of rows, as it is defined: too large for few of them."""
    x, y = x - x.mean(0), y - y.mean(0)
    return np.sum((y.T @ x) ** 2) / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def test_the_estimate_is_the_mean_over_all_fours_of_different_images():
    x, y = related(7)
    gram, other = x @ x.T, y @ y.T

    def mean_of(k, m):
        fours = itertools.permutations(range(7), 4)
        return np.mean([k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in fours])

    found = similarity.covariance(np.stack([similarity.gram(x), similarity.gram(y)]))
    expected = [[mean_of(a, b) for b in (gram, other)] for a in (gram, other)]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_of_a_large_set_it_is_the_definition_however_small_the_batches():
    sets = [related(16, seed) for seed in range(500)]
    whole = defined(*(np.concatenate(each) for each in zip(*sets, strict=True)))
    assert similarity.alignment(map(list, sets))[0, 1] == pytest.approx(whole, abs=0.01)
    assert np.mean([defined(*each) for each in sets]) > whole + 0.1
    assert 0.2 < whole < 0.8


def test_rotations_sizes_and_means_change_nothing():
    x, y = related(40)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]
    found = similarity.alignment([[x, y, 0.01 * x @ rotation + 3]])
    np.testing.assert_allclose(found[0], found[2], rtol=1e-10)
    np.testing.assert_allclose(found, found.T)
    np.testing.assert_allclose(found[0, 2], 1)


def test_blocks_without_spread_have_no_alignment():
    x, y = related(40)
    found = similarity.alignment([[x, np.ones_like(y)]])
    np.testing.assert_array_equal(np.isnan(found), [[False, True], [True, True]])


def test_it_is_of_whole_maps_in_full_batches():
    train = images(70)
    subject = given_subject(lambda x, _: {"first": x, "second": np.abs(x), "third": -2 * x}, train, batch=32)
    found = similarity.measure(subject)
    assert (found["batch"], found["batches"]) == (32, 2)
    assert subject.net.shapes == {(32, 8, 8, 1)}
    flat = train.images[:64].reshape(2, 32, -1)
    np.testing.assert_allclose(found["cka"], similarity.alignment([[x, np.abs(x), x] for x in flat]))


def test_fewer_than_four_images_are_refused():
    with pytest.raises(UserError, match=r"^given-2 is compared with itself on batches of 3 images"):
        similarity.measure(given_subject(lambda x, _: {"a": x, "b": x}, images(40), batch=3))
