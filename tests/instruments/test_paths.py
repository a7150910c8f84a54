"""Path lengths, against all paths of a net one by one and the gradient of the whole net."""

import itertools
import math

import numpy as np
import pytest

from resnet_jax.errors import UserError
from resnet_jax.instruments import paths
from tests.instruments.subjects import shaken_subject


def all_paths(subject):
    names = [block.name for block in subject.net.blocks]
    return [list(chosen) for k in range(len(names) + 1) for chosen in itertools.combinations(names, k)]


def whole_gradient(subject):
    """Return the gradient of the net without gates."""
    return np.asarray(
        paths.stem_gradient(subject.net)(subject.variables, *subject.batch, train=subject.uses_batch_statistics)
    )


@pytest.fixture(
    scope="module",
    params=[
        pytest.param({}, id="running statistics", marks=pytest.mark.slow),
        pytest.param({"is_drawn": True}, id="batch statistics"),
        pytest.param({"order": "preactivation", "block": "single"}, id="six blocks"),
    ],
)
def subject(request):
    return shaken_subject(**request.param)


@pytest.fixture(scope="module")
def gradients(subject):
    return [np.asarray(each, np.float64) for each in paths.path_gradients(subject, all_paths(subject))]


def test_the_gradients_of_all_paths_add_up_to_the_nets(subject, gradients):
    assert len(gradients) == 2 ** len(subject.net.blocks)
    expected = whole_gradient(subject)
    np.testing.assert_allclose(np.sum(gradients, axis=0), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    norms = [np.linalg.norm(each) for each in gradients]
    assert len(set(np.round(norms, 12))) == len(norms)


@pytest.mark.usefixtures("eager")
def test_the_gradient_is_taken_at_the_stem():
    subject = shaken_subject()
    # The last parameter of the stem is added at every place, so its gradient is the output's where this is > 0.
    gradient = whole_gradient(subject)
    _, _, by_params = subject.net.output_gradients(
        subject.variables, *subject.batch, train=subject.uses_batch_statistics
    )
    x = stem_output(subject)
    np.testing.assert_allclose(
        np.sum(gradient * (x > 0), axis=(0, 1, 2)), by_params["stem"]["bn"]["bias"], rtol=1e-3, atol=1e-4
    )


def stem_output(subject):
    _, updates = subject.net.apply(
        subject.variables,
        subject.batch.images,
        subject.uses_batch_statistics,
        capture_intermediates=lambda module, _: module.path == ("stem",),
        mutable=["intermediates"],
    )
    return np.asarray(updates["intermediates"]["stem"]["__call__"][0])


def test_norms_and_shares_are_measured_over_all_paths(subject, gradients, monkeypatch):
    monkeypatch.setattr(paths, "DRAWS", 12)
    result, blocks = paths.measure(subject), len(subject.net.blocks)
    np.testing.assert_array_equal(result["count"], [math.comb(blocks, k) for k in range(blocks + 1)])
    norms = [np.sqrt(np.sum(each**2) / len(each)) for each in gradients]
    lengths = [len(each) for each in all_paths(subject)]
    for length, norm in enumerate(result["norm"]):
        of_length = [each for each, k in zip(norms, lengths, strict=True) if k == length]
        assert 0.999 * min(of_length) <= norm <= 1.001 * max(of_length)
    np.testing.assert_allclose(result["norm"][[0, -1]], [norms[0], norms[-1]], rtol=1e-3)
    shares = result["count"] * result["norm"]
    np.testing.assert_allclose(result["share"], shares / shares.sum())
    assert result["mean_length"] == pytest.approx(shares @ range(blocks + 1) / shares.sum())


def test_lengths_and_slope_of_norms_that_are_known(subject, monkeypatch):
    monkeypatch.setattr(paths, "mean_norm", lambda subject, length: 0.5**length)
    result, blocks = paths.measure(subject), len(subject.net.blocks)
    assert result["slope"] == pytest.approx(math.log(0.5))
    assert result["mean_length"] == pytest.approx(blocks / 3)  # Binomial, of probability 0.5 / 1.5.
    assert result["range"] == [0, {3: 2, 6: 4}[blocks]]


def test_draws_are_of_the_seed(subject):
    assert paths.mean_norm(subject, 1) == paths.mean_norm(subject, 1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"residual": False}, "plain-8 has no paths of different lengths"),
        ({"survival": 0.5, "is_drawn": True}, "residual-8 drops blocks at random in training mode, and so paths"),
        ({"family": "densenet", "depth": 10, "growth": 4}, "the blocks of DenseNet-10-4 have no shortcut"),
    ],
)
def test_nets_without_paths_to_choose_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        paths.measure(shaken_subject(**fields))


@pytest.mark.slow
def test_a_net_with_another_first_stage():
    subject = shaken_subject(family="inception", depth=20)
    whole = whole_gradient(subject)
    gradients = [np.asarray(each, np.float64) for each in paths.path_gradients(subject, all_paths(subject))]
    np.testing.assert_allclose(np.sum(gradients, axis=0), whole, rtol=1e-3, atol=1e-4 * np.abs(whole).max())
