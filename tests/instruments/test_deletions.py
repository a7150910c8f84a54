"""Lesions, against nets in which surgery has deleted or exchanged blocks, which have no gates."""

import jax
import numpy as np
import pytest

from configs import recipes
from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.instruments import Images, Settings, Subject, deletions, net_of
from resnet_jax.instruments.deletions import batches, changes_shape, doubling, exchangeable, reordered
from resnet_jax.models.gates import DELETED
from resnet_jax.surgery import edit
from resnet_jax.surgery.check import error_of
from tests.instruments.subjects import SHAPE, faultless_subject, logits_by, noise
from tests.surgery.nets import random_net

pytestmark = pytest.mark.xdist_group("deletions")

SINGLE = {"block": "single", "depth": 8}  # Two blocks a stage.


@pytest.fixture(scope="module", params=[True, False], ids=["residual", "plain"])
def measured(request):
    """Return a subject with an incomplete last batch, its net for surgery, and the measurement."""
    made, own = faultless_subject(residual=request.param, **SINGLE)
    return made, own, deletions.measure(made)


def deletable(own):
    """Return places and names of the blocks that surgery can delete."""
    names = enumerate(own.blocks)
    return [(place, name) for place, name in names if own.config.residual or not edit.has_stride(name)]


def test_a_deletion_has_the_error_of_the_net_without_the_block(measured):
    made, own, result = measured
    logits = logits_by(made.net, train=False)
    assert result["error"] == {"train": 0, "test": 0}
    for place, name in deletable(own):
        without = edit.delete(own, [name])
        for split, images in (("train", made.train), ("test", made.test)):
            assert result["deleted"][split][place] == error_of(logits(without, images.images), images.labels)
    assert len(result["deleted"]["test"]) == 6
    assert len({*result["deleted"]["train"]}) >= 3


def test_with_batch_statistics_the_error_is_the_first_batchs(measured):
    made, own, result = measured
    logits, (images, labels) = logits_by(made.net, train=True), made.batch
    assert result["error_by_batch"]["train"] == error_of(logits(own, images), labels)
    if own.config.residual:  # Surgery makes a plain block pass on its input by running statistics.
        found = [error_of(logits(edit.delete(own, [name]), images), labels) for name in own.blocks]
        assert result["deleted_by_batch"]["train"] == found


def test_swaps_have_the_error_of_the_net_with_exchanged_blocks(measured):
    made, own, result = measured
    # The only two blocks with equal shapes: a second swap undoes the first.
    exchanged = edit.permute(own, ["stage1/block0", "stage1/block1"])
    expected = error_of(logits_by(made.net, train=False)(exchanged, made.batch.images), made.batch.labels)
    assert 0 < expected < 1
    assert [each["swaps"] for each in result["swapped"]] == [1, 2, 4]
    assert [each["errors"]["train"] for each in result["swapped"]] == [[expected] * 5, [0] * 5, [0] * 5]
    # One of 15 pairs is in the wrong order.
    np.testing.assert_allclose(np.array([each["tau"] for each in result["swapped"]])[:, 0], [1 - 2 / 15, 1, 1])


def test_an_order_moves_variables_and_statistics_and_no_gates():
    own = random_net(block="single", depth=14)
    net = net_of(own.config, 10, SHAPE)
    variables = net.gated(own.variables, {"stage1/block2": DELETED})
    new = reordered(net, variables, np.array([1, 2, 0, *range(3, 12)]))
    jax.tree.map(np.testing.assert_array_equal, new["gates"], variables["gates"])
    twice = edit.permute(edit.permute(own, own.blocks[:2]), own.blocks[1:3])  # The same in two exchanges.
    for collection in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, new[collection], twice.variables[collection])


def test_so_many_different_blocks_are_deleted_in_different_draws(monkeypatch):
    made, _ = faultless_subject(**SINGLE)
    seen = []

    def watched(net, lesions, splits, train):
        seen.append([np.array(list(models.unstack(each["gates"]).values())) for each in lesions])

    monkeypatch.setattr(deletions, "errors", watched)
    results = deletions.several(made, made.variables, {})
    assert [each["blocks"] for each in results] == [2, 4]
    for count, draws in zip((2, 4), seen, strict=True):
        masks = {tuple((gates == DELETED).all(1)) for gates in draws}
        assert len(masks) == 5
        assert {sum(mask) for mask in masks} == {count}


def test_all_lesions_of_all_steps_are_one_program_for_each_way_to_normalise():
    made, _ = faultless_subject(**SINGLE)
    deletions.measure(made)
    compiled = deletions.count_misclassified._cache_size()
    other, _ = faultless_subject(seed=1, **SINGLE)
    deletions.measure(other)
    assert deletions.count_misclassified._cache_size() == compiled


def test_without_running_statistics_all_is_by_batch():
    made, own = faultless_subject(has_running_statistics=False, train=16, test=16, **SINGLE)
    result = deletions.measure(made)
    assert result.keys() == {"changes_shape", "error", "deleted", "several", "swapped"}
    assert result["error"]["train"] == error_of(
        logits_by(made.net, train=True)(own, made.train.images), made.train.labels
    )
    assert [each["blocks"] for each in result["several"]] == [2, 4]
    assert [each["swaps"] for each in result["swapped"]] == [1, 2, 4]


def test_blocks_of_different_shapes_are_not_swapped():
    own = random_net()
    assert exchangeable(net_of(own.config, 10, SHAPE), own.variables) == []
    own = random_net(**SINGLE)
    assert exchangeable(net_of(own.config, 10, SHAPE), own.variables) == [(0, 1)]


@pytest.mark.parametrize(("count", "size"), [(40, 16), (3, 16), (32, 16)])
def test_batches_are_full_and_count_every_image_once(count, size):
    images = Images(noise(count), np.arange(count))
    found = batches(images, size)
    assert {batch.images.shape for batch in found} == {(size, *SHAPE)}
    assert sorted(np.concatenate([batch.labels[batch.counts] for batch in found])) == list(range(count))
    for batch in found:
        np.testing.assert_array_equal(batch.images, images.images[batch.labels])


def test_numbers_of_blocks_double():
    assert doubling(2, 27) == [2, 4, 8, 16]
    assert doubling(1, 1) == []
    assert doubling(1, 2) == [1]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"depth": 14}, [False, False, True, False, True, False]),
        ({"depth": 11, "block": "bottleneck", "shortcut": "B"}, [True, True, True]),
        ({"depth": 10, "family": "wide", "widening": 2}, [True, True, True]),
        pytest.param({"depth": 20, "family": "inception"}, [False, False, False], marks=pytest.mark.slow),
        ({"depth": 8, "residual": False}, [False, True, True]),
    ],
    ids=str,
)
def test_blocks_that_change_the_shape_are_marked(fields, expected):
    model = recipes.digits(**{"residual": True} | fields).model
    assert changes_shape(net_of(model, 10, (8, 8, 1))) == expected


def test_a_net_without_shortcuts_around_blocks_is_refused():
    model = recipes.digits(depth=10, residual=True, family="densenet", growth=4).model
    net = net_of(model, 10, SHAPE)
    images = Images(noise(4), np.zeros(4, int))
    with pytest.raises(
        UserError, match=r"^the blocks of DenseNet-10-4 have no shortcut that could be opened or closed$"
    ):
        deletions.measure(Subject(net, {}, 200, True, images, images, Settings(4, 4)))
