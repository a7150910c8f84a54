"""The Jacobian of the logits, against the whole matrix by jax.jacrev and its singular values by numpy."""

import jax
import numpy as np
import pytest

from resnet_jax.instruments import jacobian
from resnet_jax.instruments.second_order import jacobian_product
from tests.instruments.subjects_b import small_subject

NETS = {
    "residual": {"residual": True},
    "plain at step 0": {"residual": False, "is_drawn": True},
    "preact": {"order": "preactivation"},
}


@pytest.fixture(scope="module", params=NETS)
def subject(request):
    return small_subject(batch=4, **NETS[request.param])


@pytest.fixture(scope="module")
def dense(subject):
    """Return the Jacobian ``[images, classes, images, pixels]``."""
    images = subject.batch.images
    whole = jax.jit(
        jax.jacrev(lambda images: subject.net.logits_of(subject.variables, images, subject.uses_batch_statistics))
    )
    return np.asarray(whole(images), np.float64).reshape(4, 10, 4, 64)


def matrices(subject, dense):
    return [dense.reshape(40, 256)] if subject.uses_batch_statistics else [dense[each, :, each] for each in range(4)]


def test_the_product_is_that_of_the_matrix(subject, dense):
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


def test_the_norm_is_that_of_the_matrix(subject, dense, monkeypatch):
    monkeypatch.setattr(jacobian, "DRAWS", 1000)
    squares = jacobian.squared_frobenius_norms(subject)
    np.testing.assert_allclose(squares, [np.sum(each**2) for each in matrices(subject, dense)], rtol=0.15)


def test_images_have_no_effect_on_others_with_running_statistics_alone(subject, dense):
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
