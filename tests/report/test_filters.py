"""Filters as pictures, on made-up ones."""

import numpy as np
import pytest

from resnet_jax.report.filters import draw_filters, mosaic
from tests.analysis.measured import measurement


def test_a_mosaic_has_each_tile_in_its_row_and_column():
    tiles = np.arange(2 * 3 * 4).reshape(2, 3, 2, 2, 1)
    picture = mosaic(tiles.astype(float))
    assert picture.shape == (6, 9, 1)
    np.testing.assert_array_equal(picture[3:5, 6:8, 0], tiles[1, 2, ..., 0])
    assert np.all(np.isnan(picture[2]))


@pytest.mark.parametrize("inputs", [1, 3])
def test_there_is_a_picture_of_the_first_convolution_and_one_of_each_stage(inputs):
    stages = {"stage1": np.zeros((4, 3, 5, 5)), "stage2": np.ones((4, 2, 5, 5))}
    result = {"stem_filters": np.ones((20, 3, 3, inputs)), "channel_filters": stages}
    figure = draw_filters(measurement("channels", result, 300))
    shapes = [axis.images[0].get_array().shape[:2] for axis in figure.axes]
    assert shapes == [(2 * 4, 16 * 4), (4 * 6, 3 * 6), (4 * 6, 2 * 6)]
    assert (figure.axes[0].images[0].get_array().ndim == 3) == (inputs == 3)
