"""Channels, against numpy's correlation, the shortcut by hand and the branch's own convolutions."""

import math

import jax
import numpy as np
import pytest

from resnet_jax.errors import UserError
from resnet_jax.instruments import channels
from tests.instruments.subjects import drawn_subject

pytestmark = pytest.mark.usefixtures("eager")


def test_the_correlation_is_numpys_in_the_mean_over_channels_that_vary():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 10, 4, 4, 3)).astype(np.float32)
    b += a * [0, 0.5, 2]
    expected = [np.corrcoef(a[..., index].ravel(), b[..., index].ravel())[0, 1] for index in range(3)]
    assert channels.correlation(a, b) == pytest.approx(np.mean(expected))
    a[..., 0], b[..., 1] = 0, 7
    assert channels.correlation(a, b) == pytest.approx(expected[2])
    assert math.isnan(channels.correlation(a, 0 * b))


@pytest.fixture(scope="module")
def residual():
    subject = drawn_subject()
    return subject, channels.measure(subject)


def test_the_shortcut_is_the_blocks_own_and_the_control_another_channel(residual):
    subject, found = residual
    _, outputs = subject.net.outputs(subject.variables, subject.batch.images, train=True)
    before, output = (np.asarray(outputs[f"{stage}/block0"]) for stage in ("stage1", "stage2"))
    # Option A puts the channels that there were in the middle.
    corrs = [np.corrcoef(before[:, ::2, ::2, i].ravel(), output[..., i + 8].ravel())[0, 1] for i in range(16)]
    assert found["same"][1] == pytest.approx(np.mean(corrs), abs=1e-4)
    nexts = [np.corrcoef(before[:, ::2, ::2, i].ravel(), output[..., i + 9].ravel())[0, 1] for i in range(16)]
    assert found["other"][1] == pytest.approx(np.mean(nexts), abs=1e-4)


def test_channels_keep_their_meaning_along_shortcuts(residual):
    _, found = residual
    assert min(found["same"]) > 0.3
    assert max(map(abs, found["other"])) < 0.2


def test_the_recorded_filters_are_the_drawn_ones(residual):
    subject, found = residual
    drawn = channels.pictures(subject)
    # Of 8 layers only the first stage has a block that does not change the width.
    assert list(drawn) == ["stem", "stage1"]
    np.testing.assert_array_equal(found["stem_filters"], drawn["stem"])
    np.testing.assert_array_equal(found["channel_filters"]["stage1"], drawn["stage1"])
    assert found["channels"] == {"stage1": [0, 5, 10, 15]}
    kernel = subject.variables["params"]["stem"]["conv"]["kernel"]
    assert drawn["stem"].shape == (16, 3, 3, 1)
    np.testing.assert_allclose(drawn["stem"][5], kernel[..., 5] / np.abs(kernel[..., 5]).max(), atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "blocks", "side"),
    [
        ({"depth": 14, "residual": False}, (2, 1, 1), 5),
        ({"depth": 20, "block": "bottleneck"}, (1, 1, 1), 3),
        ({"depth": 14, "block": "single"}, (4, 3, 3), 3),
        ({"depth": 20, "order": "preactivation", "shortcut": "B"}, (3, 2, 2), 5),
    ],
    ids=str,
)
def test_each_stage_has_a_filter_of_each_of_its_blocks_of_one_width(fields, blocks, side):
    drawn = channels.pictures(drawn_subject(**fields))
    shapes = {f"stage{index}": (4, count, side, side) for index, count in enumerate(blocks, 1)}
    assert {name: filters.shape for name, filters in drawn.items() if name != "stem"} == shapes
    for filters in drawn.values():
        assert np.abs(filters).max() == 1


def test_of_an_imagenet_net_the_stem_has_colours_and_other_stages_blocks_of_one_width():
    drawn = channels.pictures(drawn_subject(family="imagenet", shape=(32, 32, 3), depth=18))
    assert drawn["stem"].shape == (64, 7, 7, 3)
    blocks = [filters.shape[1] for name, filters in drawn.items() if name != "stem"]
    assert blocks == [2, 1, 1, 1]


def test_a_drawn_filter_is_the_branchs_convolutions_one_after_the_other():
    random = np.random.default_rng(0)
    kernels = [random.normal(size=shape).astype(np.float32) for shape in [(1, 1, 16, 6), (3, 3, 6, 9), (3, 3, 9, 16)]]
    found = channels.own_filters(kernels)
    assert found.shape == (4, 5, 5)
    image = random.normal(size=(9, 9)).astype(np.float32)

    def convolved(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    for index, channel in enumerate([0, 5, 10, 15]):
        x = np.zeros((1, 9, 9, 16), np.float32)
        x[0, ..., channel] = image
        for kernel in kernels:
            x = convolved(x, kernel / np.sqrt((kernel**2).sum((0, 1, 2))))
        whole = convolved(image[None, ..., None], found[index][..., None, None].astype(np.float32))
        np.testing.assert_allclose(x[0, ..., channel], whole[0, ..., 0], rtol=1e-3, atol=1e-5)


def test_nets_whose_shortcuts_cannot_be_separated_are_refused():
    with pytest.raises(UserError, match=r"^in norm-after-addition residual-8 a norm follows the addition"):
        channels.measure(drawn_subject(order="norm_after_addition"))
