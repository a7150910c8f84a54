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


def test_red_is_positive_blue_negative_and_places_without_a_filter_are_empty():
    stem = np.array([0.5, -1.0]).reshape(2, 1, 1, 1)
    stages = {"stage1": np.array([[[[0.25]], [[-0.75]]]])}  # One channel, two blocks.
    figure = draw_filters(measurement("channels", {"stem_filters": stem, "channel_filters": stages}, 300))
    first, stage = (axis.images[0] for axis in figure.axes)
    np.testing.assert_array_equal(first.get_array()[0, [0, 2]], [0.5, -1.0])
    assert np.isnan(np.asarray(first.get_array().filled(np.nan), float)[0, 4])  # The third of sixteen places.
    np.testing.assert_array_equal(stage.get_array()[0, [0, 2]], [0.25, -0.75])
    assert (first.get_clim(), first.get_cmap().name) == ((-1, 1), "RdBu_r")
    assert [axis.get_title() for axis in figure.axes] == [
        "first convolution",
        "stage1: a channel a row, a block a column",
    ]
    assert figure.get_suptitle() == "run: filters"


def test_filters_of_colours_are_drawn_in_colour_with_grey_for_zero():
    stem = np.array([-1.0, 0.0, 1.0]).reshape(1, 1, 1, 3)
    figure = draw_filters(measurement("channels", {"stem_filters": stem, "channel_filters": {}}, 300))
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array()[0, 0], [0, 0.5, 1])
