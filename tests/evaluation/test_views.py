"""Crops and scales, compared with torchvision's on Pillow's images."""

import numpy as np
import PIL.Image
import pytest

from resnet_jax.errors import UserError
from resnet_jax.evaluation.views import CROP, SCALES, check_protocol, corners, views

SHAPES = [(300, 400), (333, 500), (500, 333), (256, 256), (224, 301), (100, 80), (641, 257)]


def image(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def test_nets_that_take_images_as_they_are_see_these_and_their_mirror_images():
    original = image(32, 32)
    [view] = views(original, None, "single", flip=False)
    assert view is original
    _, mirrored = views(original, None, "single", flip=True)
    np.testing.assert_array_equal(mirrored, np.asarray(PIL.Image.fromarray(original).transpose(0)))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_crops_are_torchvisions(shape):
    transforms = pytest.importorskip("torchvision", reason="needs torchvision").transforms.functional
    original = image(*shape)
    resized = transforms.resize(PIL.Image.fromarray(original), 256)
    [view] = views(original, CROP, "single", flip=False)
    np.testing.assert_array_equal(view, transforms.center_crop(resized, CROP))
    ten = [view.tobytes() for view in views(original, CROP, "ten_crop", flip=False)]
    # In another order: torchvision mirrors the image and then takes the corners.
    assert sorted(ten) == sorted(crop.tobytes() for crop in transforms.ten_crop(resized, CROP))
    assert len(ten) == 10


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("flip", [False, True])
def test_multi_scale_sees_all_of_the_image_at_the_papers_five_sizes(shape, flip):
    found = views(image(*shape), CROP, "multi_scale", flip)
    assert len(found) == 5 * (1 + flip)
    for view, side in zip(found, SCALES * (1 + flip), strict=True):
        height, width = view.shape[:2]
        assert min(height, width) == side
        assert height % 32 == width % 32 == 0
        ideal = side * max(shape) / min(shape)
        assert abs(max(height, width) - ideal) <= 17
    if flip:
        np.testing.assert_array_equal(found[5], found[0][:, ::-1])


def test_an_image_that_has_the_size_is_not_touched():
    original = image(256, 300)
    [view] = views(original, CROP, "single", flip=False)
    np.testing.assert_array_equal(view, original[16:240, 38:262])


def test_grey_images_stay_so():
    assert views(image(40, 60, 1), CROP, "multi_scale", False)[0].shape == (224, 320, 1)


def test_the_five_crops_are_corners_and_centre():
    assert corners((256, 300, 3), CROP, "ten_crop") == [(0, 0), (0, 76), (32, 0), (32, 76), (16, 38)]


@pytest.mark.parametrize("protocol", ["ten_crop", "multi_scale"])
def test_small_images_have_no_crops(protocol):
    check_protocol("net", CROP, protocol)
    with pytest.raises(UserError, match=rf"--protocol={protocol} is for nets trained on crops, but net takes"):
        check_protocol("net", None, protocol)
