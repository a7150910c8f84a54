"""Comparisons of nets, in float64 and against numpy."""

import math

import numpy as np
import pytest

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.models.gates import DELETED, RESIDUAL
from resnet_jax.surgery import check, edit, logits_of
from tests.surgery.nets import IMAGES, by_hand, random_net

pytestmark = pytest.mark.usefixtures("eager_float64")


@pytest.fixture
def net():
    return random_net()


def shifted(net, path, by):
    """Return ``net`` with the first number of the leaf at ``path`` changed by ``by``."""
    leaf = net.leaves[path].copy()
    leaf[0] += by
    return net.rebuilt(net.leaves | {path: leaf})


def same_blocks(net):
    return {name: name for name in net.blocks}


HEAD_BIAS = ("params", "head", "bias")
LAST_BIAS = ("params", "stage3", "block0", "bn2", "bias")


def test_images_are_computed_batch_by_batch(net, monkeypatch):
    whole = logits_of(net, IMAGES)
    monkeypatch.setattr(check, "PIXELS_AT_ONCE", 3 * 64)
    assert [len(logits) for logits, _ in check.forward(net, IMAGES)] == [3, 3]
    np.testing.assert_allclose(logits_of(net, IMAGES), whole, rtol=1e-10)


def test_gates_apply_to_the_forward_pass(net):
    gates = dict.fromkeys(net.blocks, RESIDUAL) | {"stage2/block0": DELETED}
    gates = models.gate_blocks(net.model, net.image_shape, gates)
    without = edit.delete(net, ["stage2/block0"])
    np.testing.assert_allclose(logits_of(net, IMAGES, gates), by_hand(without)[0], rtol=1e-10)


def test_moments_in_batches_equal_the_moments_of_all_images(net, monkeypatch):
    monkeypatch.setattr(check, "PIXELS_AT_ONCE", 3 * 64)  # Batches of 3 and 2.
    found = check.moments(net, IMAGES[:5], ["stage1/block0", "stage3/block0"])
    _, outputs = by_hand(net, IMAGES[:5])
    assert list(found) == ["stage1/block0", "stage3/block0"]
    for name, (mean, var) in found.items():
        np.testing.assert_allclose(mean, outputs[name].mean((0, 1, 2)), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(var, outputs[name].var((0, 1, 2)), rtol=1e-10, atol=1e-12)


def test_constant_outputs_have_no_negative_variance(net):
    constant = net.rebuilt(
        {path: np.zeros_like(leaf) if path[-1] == "kernel" else leaf for path, leaf in net.leaves.items()}
    )
    [(_, var)] = check.moments(constant, IMAGES, ["stage1/block0"]).values()
    assert var.min() >= 0
    np.testing.assert_allclose(var, 0, atol=1e-12)


def test_differences_are_the_largest_of_logits_and_of_outputs(net):
    differences = check.compare(net, shifted(net, HEAD_BIAS, 5e-5), IMAGES, same_blocks(net))
    assert differences.logits == pytest.approx(5e-5)
    assert differences.blocks == 0
    outputs = by_hand(net)[1]["stage3/block0"]
    differences = check.compare(net, shifted(net, LAST_BIAS, 5e-5), IMAGES, same_blocks(net))
    assert differences.blocks == pytest.approx(5e-5 / max(1, np.abs(outputs).max()), rel=1e-6)
    assert 0 < differences.logits < 5e-4


def test_outputs_are_compared_with_their_counterparts(net):
    deeper = edit.insert_identity(net, 14)
    last = {name: f"{name.split('/')[0]}/block0" for name in deeper.blocks}
    assert max(check.compare(net, deeper, IMAGES, last)) < 1e-10
    with pytest.raises(UserError, match=r"the output of stage1/block0 of the new net would differ"):
        check.compare(
            deeper, shifted(deeper, ("params", "stage1", "block0", "bn2", "bias"), 1), IMAGES, same_blocks(deeper)
        )


@pytest.mark.parametrize(
    ("path", "by", "compared"),
    [
        (HEAD_BIAS, 2e-4, r"logits of the new net would differ by 2\.0e-04 on 6 images, more than 0\.0001, because"),
        (HEAD_BIAS, math.nan, r"logits of the new net would differ by inf"),
        (LAST_BIAS, 1, r"output of stage3/block0 of the new net would differ by .*; nothing was written\.$"),
    ],
    ids=["logits", "not finite", "block"],
)
def test_nets_that_differ_by_more_than_the_tolerance_are_refused(net, path, by, compared):
    with pytest.raises(UserError, match=f"^the {compared}"):
        check.compare(net, shifted(net, path, by), IMAGES, same_blocks(net))


def test_a_net_without_blocks_is_compared_with_gates(net):
    without = edit.delete(net, ["stage2/block0"])
    assert check.compare_with_gates(net, without, IMAGES, ["stage2/block0"]).logits < 1e-10
    assert check.compare_with_gates(net, without, IMAGES, ["stage2/block0"]).blocks is None
    with pytest.raises(UserError, match=r"the logits of the new net would differ"):
        check.compare_with_gates(net, without, IMAGES, ["stage3/block0"])


@pytest.mark.parametrize(
    ("other", "expected"), [([1, 2], 0), ([1.5, -2], 4), ([math.nan, 2], math.inf), ([math.inf, 2], math.inf)]
)
def test_the_largest_difference_is_infinite_where_a_number_is_not_finite(other, expected):
    assert check.largest_difference(np.array([1.0, 2]), np.array(other, float)) == expected


def test_the_error_is_the_share_of_labels_without_the_highest_logit():
    assert check.error_of(np.eye(4), np.array([0, 1, 3, 2])) == 0.5
    assert check.error_of(np.zeros((2, 3)), np.array([0, 1])) == 0.5  # The first of equal logits is the answer.
