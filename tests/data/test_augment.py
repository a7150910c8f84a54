"""Normalisation and augmentation, against plain numpy."""

import jax
import numpy as np
import pytest

from resnet_jax import data
from resnet_jax.config import default
from resnet_jax.data import augment


def random_images(batch=6, size=5):
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)


def dataset(images):
    return data.Dataset(("a", "b", "c"), {"train": data.Split(images, np.zeros(len(images), np.int32))})


def settings(mean="pixel", std="none"):
    config = default().data
    config.mean, config.std = mean, std
    return config


def test_the_normalised_training_set_has_mean_zero_at_every_pixel():
    images = random_images(50)
    mean, std = data.normalisation(dataset(images), settings())
    assert (mean.shape, mean.dtype, std) == ((5, 5, 3), np.float32, None)
    normalised = np.asarray(augment.normalise(images, mean))
    np.testing.assert_allclose(normalised.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(normalised * 255, images - images.mean(0), atol=1e-4)


@pytest.mark.parametrize("mean", ["pixel", "channel"])
def test_a_standard_deviation_is_of_the_raw_training_images(mean):
    """Deviations of each channel are about its own mean, of all values about theirs: as in the authors' code."""
    images = random_images(50) // np.array([1, 2, 3], np.uint8)
    pixels = images.astype(np.float64) / 255
    for std, expected in (("channel", pixels.std((0, 1, 2))), ("scalar", np.full(3, pixels.std()))):
        subtracted, divisor = data.normalisation(dataset(images), settings(mean, std))
        assert (divisor.shape, divisor.dtype) == ((1, 1, 3), np.float32)
        np.testing.assert_allclose(divisor[0, 0], expected, rtol=1e-6)
        np.testing.assert_allclose(
            augment.normalise(images, subtracted, divisor),
            (pixels - pixels.mean(0 if mean == "pixel" else (0, 1, 2))) / expected,
            atol=1e-5,
        )


def test_images_may_be_normalised_by_those_of_imagenet():
    images = random_images()
    mean, std = data.normalisation(dataset(images), settings("imagenet", "imagenet"))
    expected = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(augment.normalise(images, mean, std), expected, atol=1e-5)
    assert data.normalisation(dataset(images), settings("imagenet"))[1] is None


@pytest.mark.parametrize("std", ["channel", "scalar"])
def test_a_channel_without_variance_is_not_divided_by_it(std):
    images = random_images()
    images[..., 1] = 77
    _, divisor = data.normalisation(dataset(images), settings(std=std))
    pixels = images / 255
    expected = [pixels[..., 0].std(), 1, pixels[..., 2].std()] if std == "channel" else pixels.std()
    np.testing.assert_allclose(divisor[0, 0], expected, rtol=1e-6)
    _, divisor = data.normalisation(dataset(np.full_like(images, 77)), settings(std=std))
    np.testing.assert_array_equal(divisor, 1)


@pytest.mark.parametrize("form", ["tpu", "default"])
@pytest.mark.parametrize(("pad", "mode"), [("zero", "constant"), ("reflect", "reflect")])
def test_crops_and_flips_equal_slices_of_the_padded_image(pad, mode, form, monkeypatch):
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, **forms: forms[form](*args))
    images = random_images().astype(np.float32)
    crops = augment.Crops(
        np.array([0, 4, 2, 1, 3, 2], np.int32), np.array([0, 4, 2, 3, 0, 2], np.int32), np.array([0, 0, 0, 1, 1, 1]) > 0
    )
    result = augment.crop_and_flip(images, crops, 2, pad)
    for image, top, left, flip, got in zip(images, *crops, result, strict=True):
        window = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode)[top : top + 5, left : left + 5]
        np.testing.assert_array_equal(got, window[:, ::-1] if flip else window)
    np.testing.assert_array_equal(result[2], images[2])


def test_every_window_is_equally_likely_and_half_of_the_images_are_flipped():
    crops = augment.draw_crops(jax.random.key(0), 90_000, padding=4, flip=True)
    windows = np.bincount(np.asarray(crops.top) * 9 + np.asarray(crops.left), minlength=81)
    assert windows.shape == (81,)
    expected = 90_000 / 81
    assert np.sum((windows - expected) ** 2 / expected) < 80 + 5 * np.sqrt(2 * 80)  # Chi square, 80 degrees.
    assert abs(np.mean(crops.flip) - 0.5) < 0.01


def test_nothing_is_flipped_where_the_config_says_so():
    assert not np.any(augment.draw_crops(jax.random.key(0), 100, padding=4, flip=False).flip)


def test_without_padding_images_are_flipped_alone():
    images = random_images().astype(np.float32)
    zeros = np.zeros(6, np.int32)
    flip = np.array([0, 1, 0, 1, 1, 0]) > 0
    result = np.asarray(augment.crop_and_flip(images, augment.Crops(zeros, zeros, flip), padding=0))
    np.testing.assert_array_equal(result, np.where(flip[:, None, None, None], images[:, :, ::-1], images))


def test_colour_noise_is_gaussian_along_the_principal_components():
    """Krizhevsky et al. 2012, section 4.1: each component times a draw of deviation 0.1 times its own."""
    noise = np.asarray(augment.draw_color_noise(jax.random.key(0), 200_000, 0.1), np.float64)
    assert noise.shape == (200_000, 1, 1, 3)
    components = augment.COLOR_COMPONENTS.astype(np.float64)
    np.testing.assert_allclose(components.T @ components, np.eye(3), atol=2e-3)  # They were published so rounded.
    expected = components @ np.diag((0.1 * augment.COLOR_DEVIATIONS.astype(np.float64)) ** 2) @ components.T
    np.testing.assert_allclose(np.cov(noise[:, 0, 0].T), expected, rtol=0.03, atol=1e-7)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=3e-4)


def test_the_colours_of_natural_images_vary_along_these_components():
    """Their first is brightness: nearly equal in all channels, and by far the widest."""
    first = augment.COLOR_COMPONENTS[:, 0]
    np.testing.assert_allclose(first, first.mean(), atol=0.01)
    assert augment.COLOR_DEVIATIONS[0] > 10 * augment.COLOR_DEVIATIONS[1]


def test_colour_noise_is_drawn_for_the_whole_batch():
    whole = augment.draw_color_noise(jax.random.key(3), 8, 0.1)
    assert len(np.unique(np.asarray(whole)[:, 0, 0, 0])) == 8
    np.testing.assert_array_equal(whole, augment.draw_color_noise(jax.random.key(3), 8, 0.1))


def test_a_mean_of_each_channel_is_taken_from_all_pixels():
    images = random_images()
    mean = np.array([[[0.1, 0.2, 0.3]]], np.float32)
    np.testing.assert_allclose(augment.normalise(images, mean), images / 255 - [0.1, 0.2, 0.3], atol=1e-6)
