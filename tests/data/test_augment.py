"""Normalisation and augmentation, against plain numpy."""

import jax
import numpy as np

from resnet_jax.data import augment


def random_images(batch=6, size=5):
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)


def test_the_normalised_training_set_has_mean_zero_at_every_pixel():
    images = random_images(50)
    mean = augment.pixel_mean(images)
    assert mean.shape == (5, 5, 3)
    normalised = np.asarray(augment.normalise(images, mean))
    np.testing.assert_allclose(normalised.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(normalised * 255, images - images.mean(0), atol=1e-4)


def test_crops_and_flips_equal_slices_of_the_padded_image():
    images = random_images().astype(np.float32)
    crops = augment.Crops(
        np.array([0, 4, 2, 1, 3, 2], np.int32), np.array([0, 4, 2, 3, 0, 2], np.int32), np.array([0, 0, 0, 1, 1, 1]) > 0
    )
    result = augment.crop_and_flip(images, crops, padding=2)
    for image, top, left, flip, got in zip(images, *crops, result, strict=True):
        window = np.pad(image, ((2, 2), (2, 2), (0, 0)))[top : top + 5, left : left + 5]
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
