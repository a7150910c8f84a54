"""Holding out a validation split, downsampling, and the embedded set."""

import numpy as np
import pytest
import sklearn.datasets

from configs import recipes
from resnet_jax import data
from resnet_jax.data.dataset import downsampled_shape, means
from resnet_jax.errors import UserError


def load(**fields):
    config = recipes.digits(depth=8, residual=True).data
    config.update(fields)
    return data.load(config)


def test_the_digits_are_all_of_scikit_learns_each_once():
    dataset = load()
    assert dataset.num_classes == 10
    assert {name: len(split.labels) for name, split in dataset.splits.items()} == {"train": 1500, "test": 297}
    bunch = sklearn.datasets.load_digits()

    def as_set(images, labels):
        return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))

    images, labels = (np.concatenate(parts) for parts in zip(*dataset.splits.values(), strict=True))
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    back = np.round(images[..., 0] * (16 / 255)).astype(np.uint8)
    assert as_set(back, labels) == as_set(bunch.images.astype(np.uint8), bunch.target)


def test_validation_examples_are_taken_from_the_training_set():
    whole, held = load(), load(validation_examples=150)
    assert {name: len(split.labels) for name, split in held.splits.items()} == {
        "train": 1350,
        "validation": 150,
        "test": 297,
    }
    joined = np.concatenate([held.splits["train"].images, held.splits["validation"].images])
    np.testing.assert_array_equal(joined, whole.splits["train"].images)


@pytest.mark.parametrize("examples", [-1, 1500, 5000])
def test_an_impossible_number_of_validation_examples_is_refused(examples):
    with pytest.raises(UserError, match=rf"config\.data\.validation_examples={examples} must be from 0 to 1499"):
        load(validation_examples=examples)


def test_the_shape_of_a_set_is_known_without_its_images():
    config = recipes.cifar(depth=20, residual=True).data
    assert data.shape(config) == ((32, 32, 3), 10)
    config.downsample = 2
    assert data.shape(config) == ((16, 16, 3), 10)
    config.name = "digits"
    dataset = load(downsample=2)
    assert data.shape(config) == (dataset.splits["train"].images.shape[1:], dataset.num_classes)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 6])
def test_downsampled_pixels_are_the_grey_levels_nearest_to_the_means_halves_up(factor):
    images = np.random.default_rng(0).integers(0, 256, (40, 24, 12, 3), np.uint8)
    squares = images.astype(np.float64).reshape(40, 24 // factor, factor, 12 // factor, factor, 3)
    expected = squares.mean((2, 4))
    assert (factor % 2 == 1) == (not np.any(expected % 1 == 0.5))
    found = means(images, factor)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.floor(expected + 0.5))


def test_large_squares_of_white_are_white():
    assert means(np.full((1, 256, 256, 1), 255, np.uint8), 256).tolist() == [[[[255]]]]


def test_all_splits_are_downsampled_before_anything_is_computed_from_them():
    whole, half = (load(validation_examples=150, downsample=factor) for factor in (1, 2))
    for name, (images, labels) in half.splits.items():
        np.testing.assert_array_equal(images, means(whole.splits[name].images, 2))
        np.testing.assert_array_equal(labels, whole.splits[name].labels)
    assert {split.images.shape[1:] for split in half.splits.values()} == {(4, 4, 1)}
    mean, _ = data.normalisation(half, recipes.digits(depth=8, residual=True).data)
    np.testing.assert_allclose(mean, half.splits["train"].images.mean(axis=0) / 255, rtol=1e-6)
    assert data.identify(half)["contents"] != data.identify(whole)["contents"]


def test_what_does_not_divide_the_images_is_refused_with_or_without_reading_them():
    for factor in (3, 16):
        sentence = rf"downsample={factor} does not divide images of 8x8 pixels; give one of 1, 2, 4, 8\.$"
        with pytest.raises(UserError, match=sentence):
            load(downsample=factor)
    config = recipes.cifar(depth=20, residual=True).data
    config.downsample = 3
    with pytest.raises(UserError, match=r"downsample=3 does not divide images of 32x32 pixels; .* 1, 2, 4, 8, 16, 32"):
        data.shape(config)


def test_images_that_are_not_square_are_divided_by_a_common_divisor():
    assert downsampled_shape((12, 18, 3), 6) == (2, 3, 3)
    with pytest.raises(UserError, match=r"downsample=4 does not divide images of 12x18 pixels; give one of 1, 2, 3, 6"):
        downsampled_shape((12, 18, 3), 4)
