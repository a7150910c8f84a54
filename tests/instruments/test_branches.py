"""Branches and shortcuts, against a net written by hand in numpy."""

import math

import numpy as np
import pytest

from configs import recipes
from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.instruments import Images, Settings, Subject, branches, net_of
from resnet_jax.instruments.branches import ratio, share
from tests.instruments.subjects import SHAPE, faultless_subject, noise
from tests.surgery.nets import by_hand, convolution

pytestmark = pytest.mark.usefixtures("eager")


def branch_by_hand(own, name, x):
    """Return the branch of block ``name`` with running statistics for its input ``x``, float64."""
    layers = {path[3:]: np.asarray(leaf, np.float64) for path, leaf in own.leaves.items() if path[1:3] == tuple(name)}
    for layer in ("1", "2"):
        stride = 2 if layer == "1" and name[1] == "block0" and name[0] != "stage1" else 1
        x = convolution(np.maximum(x, 0), layers[f"conv{layer}", "kernel"], stride)
        scale, bias, mean, var = (layers[f"bn{layer}", leaf] for leaf in ("scale", "bias", "mean", "var"))
        x = scale * (x - mean) / np.sqrt(var + 1e-5) + bias
    return x


def test_ratio_and_share_equal_the_net_by_hand():
    made, own = faultless_subject(train=8, test=8, batch=8)
    result = branches.measure(made)
    assert result["is_added"]
    _, outputs = by_hand(own, made.batch.images.astype(np.float64))
    # Shortcuts by option A of the outputs of the first two blocks; the first block's input is the stem's output.
    for place, (before, block) in enumerate([(0, 1), (1, 2)], 1):
        x, y = (outputs[own.blocks[each]] for each in (before, block))
        branch = branch_by_hand(own, own.blocks[block].split("/"), x)
        missing = y.shape[-1] - x.shape[-1]
        shortcut = np.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (missing // 2, missing // 2)))
        np.testing.assert_allclose(np.maximum(branch + shortcut, 0), y, atol=1e-6)
        lengths = [np.sqrt((part**2).sum((1, 2, 3))) for part in (branch, shortcut)]
        assert result["ratio"][place] == pytest.approx(np.mean(lengths[0] / lengths[1]), rel=1e-3)
        assert result["share"][place] == pytest.approx(branch.var() / (branch.var() + shortcut.var()), rel=1e-3)


def test_in_an_untrained_plain_net_both_are_norms_with_and_without_relu():
    net = net_of(recipes.digits(depth=8, residual=False, block="single").model, 10, SHAPE)
    images = Images(noise(8), np.zeros(8, int))
    variables = models.initial_variables(net.model, 0, SHAPE)
    result = branches.measure(Subject(net, variables, 0, False, images, images, Settings(8, 8)))
    assert not result["is_added"]
    within = [place for place, block in enumerate(net.blocks) if block.name.endswith("block1")]
    np.testing.assert_allclose(np.array(result["share"])[within], 1 / (3 / 2 - 1 / (2 * math.pi)), atol=0.02)
    np.testing.assert_allclose(np.array(result["ratio"])[within], math.sqrt(2), atol=0.1)


def test_parts_that_are_zero_or_constant():
    zeros, ones = np.zeros((2, 1, 1, 3)), np.ones((2, 1, 1, 3))
    half = np.concatenate([zeros[:1], ones[:1]])
    assert ratio(2 * ones, half) == pytest.approx(2)  # The first image has no shortcut.
    assert math.isnan(ratio(ones, zeros))
    assert share(half, ones) == 1
    assert math.isnan(share(ones, zeros))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"order": "norm_after_addition"},
            "^in norm-after-addition residual-8 a norm follows the addition, so branch ",
        ),
        ({"depth": 10, "family": "densenet", "growth": 4}, "^the blocks of DenseNet-10-4 have no shortcut that could "),
    ],
    ids=str,
)
def test_nets_whose_branch_and_shortcut_cannot_be_separated_are_refused(fields, message):
    net = net_of(recipes.digits(**{"depth": 8, "residual": True} | fields).model, 10, SHAPE)
    images = Images(noise(2), np.zeros(2, int))
    with pytest.raises(UserError, match=message):
        branches.measure(Subject(net, {}, 0, False, images, images, Settings(2, 2)))
