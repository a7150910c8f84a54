"""Curvature, against differences of gradients, the whole Hessian of a tiny net, and matrices with known eigenvalues."""

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from resnet_jax.errors import UserError
from resnet_jax.instruments import hessian
from resnet_jax.instruments.second_order import hessian_product
from tests.instruments.subjects import exact_subject, split

# Few enough parameters for the whole matrix.
TINY = {"residual": False, "widening": 1 / 16}
OTHERS = (
    {"block": "single", "depth": 14},
    {"order": "preactivation"},
    {"block": "bottleneck", "depth": 20, "shortcut": "B"},
)


def gradient_of(subject):
    """Return the parameters ``[size]`` of ``subject``, and the gradient there as a function of them."""
    params, others = split(subject)
    point, unravel = ravel_pytree(params)
    gradient = jax.jit(
        lambda point: ravel_pytree(jax.grad(subject.net.loss_of)(unravel(point), others, *subject.batch, True))[0]
    )
    return np.asarray(point), lambda point: np.asarray(gradient(point))


def product_of(subject, vector):
    """Return the product of the Hessian of ``subject`` and ``vector``."""
    params, others = split(subject)
    _, unravel = ravel_pytree(params)
    return ravel_pytree(hessian_product(subject.net)(params, others, *subject.batch, unravel(vector)))[0]


def difference(gradient, point, vector):
    """Return the derivative of ``gradient`` at ``point`` along ``vector``, by a step within which no ReLU changes."""
    step = 1e-7 * vector
    return (gradient(point + step) - gradient(point - step)) / 2e-7


@pytest.fixture(scope="module")
def tiny():
    """Return a tiny net in float64 and its whole Hessian, by differences of its gradient."""
    with jax.enable_x64(True):
        subject = exact_subject(**TINY)
        point, gradient = gradient_of(subject)
        yield subject, np.stack([difference(gradient, point, unit) for unit in np.eye(point.size)])


@pytest.mark.slow
def test_the_product_is_the_product_with_the_whole_hessian(tiny):
    subject, whole = tiny
    np.testing.assert_allclose(whole, whole.T, atol=1e-5 * np.abs(whole).max())
    vector = np.random.default_rng(0).normal(size=len(whole))
    expected = whole @ vector
    np.testing.assert_allclose(product_of(subject, vector), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.xdist_group("hessian")
def test_the_ends_and_the_trace_are_the_whole_hessians(tiny):
    subject, whole = tiny
    result, eigenvalues = hessian.measure(subject), np.linalg.eigvalsh((whole + whole.T) / 2)
    size = np.abs(eigenvalues).max()
    assert result["lambda_max"] == pytest.approx(eigenvalues[-1], abs=1e-3 * size)
    assert result["lambda_min"] == pytest.approx(eigenvalues[0], abs=1e-3 * size)
    assert result["ratio"] == pytest.approx(abs(eigenvalues[0] / eigenvalues[-1]), rel=0.01)
    # The sum of n values from three draws, each with a standard error of about sqrt(2 sum of squares).
    assert abs(result["trace"] - eigenvalues.sum()) < 4 * np.sqrt(2 * np.sum(eigenvalues**2) / hessian.STARTS)


@pytest.mark.xdist_group("hessian")
def test_a_net_that_has_diverged_is_refused(tiny):
    subject, _ = tiny
    params, others = split(subject)
    diverged = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), params)
    with pytest.raises(UserError, match="are not finite"):
        hessian.measure(subject._replace(variables={**others, "params": diverged}))


@pytest.mark.slow
@pytest.mark.parametrize("fields", OTHERS, ids=str)
def test_the_product_is_the_change_of_the_gradient(fields):
    with jax.enable_x64(True):
        subject = exact_subject(**fields)
        point, gradient = gradient_of(subject)
        vector = np.random.default_rng(0).normal(size=point.size)
        expected = difference(gradient, point, vector)
        np.testing.assert_allclose(product_of(subject, vector), expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


@pytest.fixture(scope="module")
def matrix():
    random = np.random.default_rng(0)
    rotation = np.linalg.qr(random.normal(size=(200, 200)))[0]
    eigenvalues = np.concatenate([random.normal(size=198), [-6, 9]])
    return rotation * eigenvalues @ rotation.T, np.sort(eigenvalues)


def test_lanczos_finds_the_ends(matrix):
    whole, eigenvalues = matrix
    found = hessian.lanczos(lambda vector: whole @ vector, np.random.default_rng(1).normal(size=200), 30)
    np.testing.assert_allclose(found.values[[0, -1]], [-6, 9], rtol=1e-8)
    assert np.all(found.errors[[0, -1]] < 1e-4)
    nearest = np.abs(found.values[:, None] - eigenvalues[None]).min(axis=1)
    assert np.all(nearest <= found.errors + 1e-10)
    assert found.weights.sum() == pytest.approx(1)


def test_lanczos_of_all_steps_finds_all_eigenvalues(matrix):
    whole, eigenvalues = matrix
    found = hessian.lanczos(lambda vector: whole @ vector, np.random.default_rng(1).normal(size=200), 500)
    np.testing.assert_allclose(found.values, eigenvalues, atol=1e-8)


def test_lanczos_has_the_moments_of_its_start(matrix):
    whole, _ = matrix
    start = np.random.default_rng(1).normal(size=200)
    found = hessian.lanczos(lambda vector: whole @ vector, start, 6)
    start /= np.linalg.norm(start)
    for power in range(12):  # Gauss quadrature of m nodes has 2m of them.
        expected = start @ np.linalg.matrix_power(whole, power) @ start
        assert found.weights @ found.values**power == pytest.approx(expected, rel=1e-8)


def test_lanczos_ends_where_nothing_is_new():
    found = hessian.lanczos(lambda vector: np.array([3.0, -1, -1, 0]) * vector, np.ones(4), 30)
    np.testing.assert_allclose(found.values, [-1, 0, 3], atol=1e-12)
    np.testing.assert_allclose(found.weights, [0.5, 0.25, 0.25])


def test_the_density_is_the_density_of_the_eigenvalues(matrix):
    whole, eigenvalues = matrix
    random = np.random.default_rng(2)
    found = [hessian.lanczos(lambda vector: whole @ vector, random.normal(size=200), 40) for _ in range(20)]
    result = hessian.spectrum(found, 200)
    values, density = result["values"], result["density"]
    assert np.trapezoid(density, values) == pytest.approx(1, abs=1e-3)
    assert abs(result["trace"] - eigenvalues.sum()) < 4 * result["trace_error"]
    for edge in (-2, -0.5, 0.5, 2):
        inside = values < edge
        share = np.trapezoid(density[inside], values[inside])
        assert share == pytest.approx(np.mean(eigenvalues < edge), abs=0.06)
    assert result["below"] == pytest.approx(np.mean(eigenvalues < -0.09), abs=0.06)
