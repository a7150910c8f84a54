"""Gradient confusion, against gradients of the batches one by one, flattened, and against gradients that are known."""

import jax
import numpy as np
import pytest

from resnet_jax.errors import UserError
from resnet_jax.instruments import confusion
from tests.instruments.subjects import shaken_subject, split


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64)


@pytest.fixture(scope="module")
def subject():
    return shaken_subject(examples=96, batch=4)


@pytest.fixture(scope="module")
def result(subject):
    return confusion.measure(subject)


def test_all_pairs_count_where_there_are_images_for_all_batches(result):
    assert result["pairs"] == 276


def test_the_cosines_are_cosines_of_gradients(subject, result):
    members, _ = confusion.batches(96, 4, subject.random(confusion.ORDERS))
    assert sorted(members.ravel()) == list(range(96))
    params, others = split(subject)
    gradient = subject.net.gradient
    sets = [(subject.train.images[each], subject.train.labels[each]) for each in members]
    trees = [gradient(params, others, *each, train=True)[1] for each in sets]
    assert list(result["by_stage"]) == ["stem", "stage1", "stage2", "stage3", "head"]
    parts = {name: [tree[name] for tree in trees] for name in params}
    for of, part in [(result, trees), *((result["by_stage"][name], part) for name, part in parts.items())]:
        rows = np.stack([flat(each) for each in part])
        cosines = rows @ rows.T / np.outer(*[np.linalg.norm(rows, axis=1)] * 2)
        pairs = cosines[np.triu_indices(24, 1)]
        np.testing.assert_allclose(of["minimum"], pairs.min(), rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(of["median"], np.median(pairs), rtol=1e-3, atol=1e-5)
        assert of["negative"] == pytest.approx(np.mean(pairs < 0), abs=0.01)
        covariance = np.sum(np.var(rows, axis=0, ddof=1))
        signal = np.sum(rows.mean(axis=0) ** 2) - covariance / 24  # The mean of 24 has a 24th of the variance.
        np.testing.assert_allclose(of["noise"], signal / covariance, rtol=1e-3, atol=1e-4)


def test_the_noise_fits_gradients_with_a_known_mean_and_variance():
    rows = np.random.default_rng(0).normal(size=(2000, 50)) + 0.2
    of = confusion.agreement(rows @ rows.T, np.triu(np.ones((2000, 2000), bool), 1))
    assert of["noise"] == pytest.approx(0.2**2, rel=0.1)


@pytest.mark.parametrize(("examples", "pairs"), [(8, 12), (20, 4 * 10 + 6), (22, 4 * 10 + 6), (48, 2 * 66), (500, 276)])
def test_only_batches_without_shared_images_are_pairs(examples, pairs):
    members, counted = confusion.batches(examples, 4, np.random.default_rng(0))
    assert members.shape == (24, 4)
    assert all(len(set(each)) == 4 for each in members.tolist())
    assert counted.sum() == pairs
    for one, other in np.argwhere(counted):
        assert one < other
        assert not {*members[one]} & {*members[other]}


def test_too_few_images_for_two_batches_are_refused(subject):
    with pytest.raises(UserError, match=r"7 images do not make two batches for residual-8; give more --examples"):
        confusion.measure(subject._replace(train=subject.train.first(7)))


def test_a_stage_without_gradient_agrees_with_none():
    of = confusion.agreement(np.zeros((3, 3)), np.triu(np.ones((3, 3), bool), 1))
    assert (of["minimum"], of["median"], of["negative"]) == (0, 0, 0)
    assert np.isnan(of["noise"])
