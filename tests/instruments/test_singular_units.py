"""Units that do nothing or the same as others, where it is known which."""

import math

import flax.traverse_util
import numpy as np
import pytest

from resnet_jax.instruments import singular_units
from tests.instruments.subjects import drawn_subject

RANDOM = np.random.default_rng(0)


def test_filters_overlap_if_alike_up_to_sign_and_size():
    kernel = RANDOM.normal(size=(3, 3, 5, 6))
    assert singular_units.overlapping(kernel) == 0
    kernel[..., 1] = -3 * kernel[..., 0]
    assert singular_units.overlapping(kernel) == 1
    kernel[..., 5] = kernel[..., 0] + 0.01 * RANDOM.normal(size=(3, 3, 5))
    assert singular_units.overlapping(kernel) == 3
    kernel[..., 2:4] = 0
    assert singular_units.overlapping(kernel) == 3


@pytest.mark.parametrize(("cosine", "pairs"), [(0.949, 0), (0.951, 1), (-0.951, 1)])
def test_filters_overlap_from_a_cosine_of_95_hundredths(cosine, pairs):
    kernel = np.zeros((1, 1, 2, 2))
    kernel[0, 0] = [[1, cosine], [0, math.sqrt(1 - cosine**2)]]
    assert singular_units.overlapping(kernel) == pairs


def test_the_stable_rank_is_the_filter_matrixs():
    left, right = RANDOM.normal(size=(18, 1)), RANDOM.normal(size=(1, 4))
    assert singular_units.stable_rank((left @ right).reshape(3, 3, 2, 4)) == pytest.approx(1)
    assert singular_units.stable_rank(np.eye(18)[:, :4].reshape(3, 3, 2, 4)) == pytest.approx(4)
    scaled = np.eye(18)[:, :2] * [1, 2]
    assert singular_units.stable_rank(scaled.reshape(3, 3, 2, 2)) == pytest.approx(1.25)
    assert math.isnan(singular_units.stable_rank(np.zeros((3, 3, 2, 4))))


@pytest.mark.usefixtures("eager")
def test_channels_are_dead_that_no_image_moves():
    subject = drawn_subject(train=20, residual=False)
    leaves = flax.traverse_util.flatten_dict(subject.variables)
    norm = ("params", "stage2", "block0", "bn2")
    scale, bias = np.ones(32, np.float32), np.zeros(32, np.float32)
    scale[[3, 5, 7]], bias[[3, 5]] = 0, -1  # Channels 3, 5 and 7 are constant, at 0, as the ReLU leaves them.
    scale[9], bias[9] = 1, -1.5  # Most images and places are below 0, but not all.
    leaves |= {(*norm, "scale"): scale, (*norm, "bias"): bias}
    found = singular_units.measure(subject._replace(variables=flax.traverse_util.unflatten_dict(leaves)))
    assert found["dead"] == [0, 3, 0]
    assert (found["width"], found["images"]) == ([16, 32, 64], 20)
    names = ["stem/conv", *(f"stage{stage}/block0/conv{index}" for stage in (1, 2, 3) for index in (1, 2))]
    assert found["convolutions"] == names
    assert found["filters"] == [16, 16, 16, 32, 32, 64, 64]
    assert len(found["overlapping"]) == len(found["stable_rank"]) == 7
    kernel = leaves["params", "stage2", "block0", "conv2", "kernel"]
    assert found["stable_rank"][4] == singular_units.stable_rank(kernel)


def test_blocks_of_a_loop_are_distinguished():
    subject = drawn_subject(depth=20)
    found = singular_units.convolutions(subject.net, subject.variables)
    assert list(found)[-4:] == [
        "stage3/block1/conv1",
        "stage3/block1/conv2",
        "stage3/block2/conv1",
        "stage3/block2/conv2",
    ]
    looped = subject.variables["params"]["stage3"]["rest"]["conv2"]["kernel"]
    np.testing.assert_array_equal(found["stage3/block2/conv2"], looped[1])
