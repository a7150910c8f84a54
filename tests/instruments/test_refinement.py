"""Refinement, against blocks computed one by one by numpy and gradients of the rest of the net."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.instruments import refinement
from resnet_jax.instruments.batches import whole_batches
from tests.instruments.subjects import shaken_subject

pytestmark = pytest.mark.usefixtures("eager")

SINGLE = {"block": "single", "depth": 8}


@pytest.fixture(scope="module")
def residual():
    subject = shaken_subject(examples=10, **SINGLE)
    return subject, refinement.measure(subject)


@pytest.fixture(scope="module")
def plain():
    subject = shaken_subject(examples=10, residual=False, **SINGLE)
    return subject, refinement.measure(subject)


def by_hand(subject, block, images, labels):
    """Return branch, change and dL/dx of a block of order original, with the rest of the net built by hand."""
    leaves = models.unstack(subject.variables)
    names = [each.name for each in subject.net.blocks]

    def layer(x, name, conv, norm):
        kernel = leaves[("params", *name.split("/"), conv, "kernel")]
        stride = 2 if name.endswith("block0") and not name.startswith("stage1") and conv == "conv1" else 1
        x = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        own = {each: leaves[("params", *name.split("/"), norm, each)] for each in ("scale", "bias")}
        own |= {each: leaves[("batch_stats", *name.split("/"), norm, each)] for each in ("mean", "var")}
        own = {each: value[None, None, None] for each, value in own.items()}
        return own["scale"] * (x - own["mean"]) / np.sqrt(own["var"] + 1e-5) + own["bias"]

    def branch(x, name):
        return layer(x, name, "conv1", "bn1")

    def run(x, name):
        y = branch(x, name)
        if subject.net.is_residual:
            missing = y.shape[-1] - x.shape[-1]
            x = x[:, ::2, ::2] if missing else x
            y = y + jnp.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))
        return jax.nn.relu(y)

    def loss(x):
        for name in names[names.index(block) :]:
            x = run(x, name)
        logits = x.mean((1, 2)) @ leaves[("params", "head", "kernel")] + leaves[("params", "head", "bias")][None]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()

    x = jax.nn.relu(layer(images, "stem", "conv", "bn"))
    for name in names[: names.index(block)]:
        x = run(x, name)
    return branch(x, block), run(x, block) - x, jax.grad(loss)(x)


@pytest.mark.parametrize(("block", "place"), [("stage1/block1", 1), ("stage3/block1", 5)])
@pytest.mark.parametrize("twin", ["residual", "plain"])
def test_it_is_the_cosine_of_branch_or_change_and_gradient(request, twin, block, place):
    subject, result = request.getfixturevalue(twin)
    assert result["of"] == {"residual": "branch", "plain": "change"}[twin]
    images, labels = subject.train.first(8)  # One batch; the last two images are left out.
    with jax.default_matmul_precision("highest"):
        branch, change, gradient = by_hand(subject, block, images, labels)
    moved = np.asarray(branch if twin == "residual" else change).reshape(8, -1)
    gradient = np.asarray(gradient).reshape(8, -1)
    cosines = np.sum(moved * gradient, axis=1) / np.linalg.norm(moved, axis=1) / np.linalg.norm(gradient, axis=1)
    np.testing.assert_allclose(result["train"][place], cosines.mean(), rtol=1e-3, atol=1e-4)


def test_blocks_that_change_the_shape_and_the_first_have_none(residual, plain):
    for _, result in (residual, plain):
        for split in ("train", "test"):
            assert [each is None for each in result[split]] == [True, False] * 3


def test_a_net_without_two_alike_blocks_is_refused():
    with pytest.raises(UserError, match="in residual-8 no block has an output of the shape"):
        refinement.measure(shaken_subject(depth=8))


def test_batches_are_of_one_shape():
    images = shaken_subject(examples=20).train
    lengths = {size: [len(each.labels) for each in whole_batches(images, size)] for size in (8, 10, 64)}
    assert lengths == {8: [8, 8], 10: [10, 10], 64: [20]}


def test_an_image_without_gradient_counts_as_0():
    np.testing.assert_array_equal(refinement.row_cosines(np.eye(2), np.array([[1, 0], [0, 0]])), [1, 0])
