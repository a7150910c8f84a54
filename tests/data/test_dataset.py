"""Holding out a validation split, and the embedded set."""

import numpy as np
import pytest
import sklearn.datasets

from configs import recipes
from resnet_jax import data
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
    config.name = "digits"
    dataset = load()
    assert data.shape(config) == (dataset.splits["train"].images.shape[1:], dataset.num_classes)
