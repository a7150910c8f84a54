"""The Jacobian of the logits, against the whole matrix by jax.vjp and its singular values by numpy."""

import functools

import jax
import numpy as np
import pytest

from resnet_jax.instruments import jacobian
from resnet_jax.instruments.second_order import jacobian_product
from tests.instruments.subjects import shaken_subject

NETS = [
    pytest.param({}, id="residual"),
    pytest.param({"residual": False, "is_drawn": True}, id="plain at step 0"),
    pytest.param({"order": "preactivation"}, id="preactivation", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=NETS)
def subject(request):
    return shaken_subject(batch=4, **request.param)


@pytest.fixture(scope="module")
def dense(subject):
    """Return the Jacobian ``[images, classes, images, pixels]``."""
    logits = functools.partial(subject.net.logits_of, subject.variables, train=subject.uses_batch_statistics)
    row = jax.jit(lambda images, cotangent: jax.vjp(logits, images)[1](cotangent)[0])
    rows = [row(subject.batch.images, unit) for unit in np.eye(40, dtype=np.float32).reshape(40, 4, 10)]
    return np.asarray(rows, np.float64).reshape(4, 10, 4, 64)


def matrices(subject, dense):
    return [dense.reshape(40, 256)] if subject.uses_batch_statistics else [dense[each, :, each] for each in range(4)]


def test_the_product_is_the_product_with_the_matrix(subject, dense):
    vector = np.random.default_rng(2).normal(size=subject.batch.images.shape).astype(np.float32)
    product = jacobian_product(subject.net)(
        subject.variables, subject.batch.images, vector, train=subject.uses_batch_statistics
    )
    expected = dense.reshape(40, 256) @ vector.ravel()
    np.testing.assert_allclose(np.ravel(product), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_a_batch_scaled_as_one_has_the_same_logits_at_step_0(subject):
    images = subject.batch.images
    scaled = jacobian_product(subject.net)(subject.variables, images, images, train=subject.uses_batch_statistics)
    assert np.allclose(scaled, 0, atol=1e-4) == subject.uses_batch_statistics


def test_power_iteration_finds_the_largest_singular_value(subject, dense):
    result = jacobian.measure(subject)
    assert result["of"] == ("batch" if subject.uses_batch_statistics else "image")
    largest = np.mean([np.linalg.norm(each, 2) for each in matrices(subject, dense)])
    assert 0.97 * largest < result["sigma_max"] < 1.0001 * largest
    assert 0 <= result["change"] < 0.05


def test_the_norm_is_the_norm_of_the_matrix(subject, dense, monkeypatch):
    """Exactly, if an orthogonal basis with the mean square of the draws replaces them."""
    basis = np.eye(40).reshape(40, 4, 10) if subject.uses_batch_statistics else np.eye(10)[:, None].repeat(4, axis=1)
    draws = (np.sqrt(len(basis)) * basis).astype(np.float32)
    monkeypatch.setattr(jacobian, "gaussian", lambda *_: draws)
    squares = jacobian.squared_frobenius_norms(subject)
    np.testing.assert_allclose(squares, [np.sum(each**2) for each in matrices(subject, dense)], rtol=1e-3)


def test_draws_are_gaussian_and_like_the_logits(subject):
    draws = jacobian.gaussian(subject, jacobian.DRAW, 1000)
    assert (draws.shape, draws.dtype) == ((1000, 4, 10), np.float32)
    np.testing.assert_allclose([np.mean(draws), np.std(draws)], [0, 1], atol=0.03)


def test_images_affect_others_only_with_batch_statistics(subject, dense):
    others = dense.copy()
    others[range(4), :, range(4)] = 0
    assert np.any(others != 0) == subject.uses_batch_statistics


def test_the_numbers_go_together(subject):
    result = jacobian.measure(subject)
    matrices, ranks = (1, 40) if subject.uses_batch_statistics else (4, 10)
    squares = 4 * result["frobenius"] ** 2 / matrices
    if subject.uses_batch_statistics:
        assert result["stable_rank"] == pytest.approx(squares / result["sigma_max"] ** 2)
    assert 1 < result["stable_rank"] < ranks
