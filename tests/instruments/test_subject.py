"""Subjects: a net and the images on which it is measured."""

import numpy as np
import pytest

from resnet_jax import data, evaluation
from resnet_jax.config import default
from resnet_jax.instruments import Settings, subject_of
from resnet_jax.instruments.subject import SETTLED
from resnet_jax.training import parallel

SETTINGS = Settings(examples=100, batch=32, seed=0)


@pytest.fixture(scope="module")
def trained(whole):
    """Return the net of a run of 12 steps."""
    return evaluation.of_run(whole, parallel.device_mesh())


@pytest.fixture(scope="module")
def digits():
    return data.load(config().data)


def config():
    chosen = default()
    chosen.data.name = "digits"
    return chosen


def made(trained, digits, settings=SETTINGS, **changes):
    is_made = changes.pop("is_made", False)
    return subject_of(trained._replace(**changes), digits, config(), settings, is_made)


def test_the_seed_decides_the_images(trained, digits):
    one, again = made(trained, digits), made(trained, digits)
    other = made(trained, digits, SETTINGS._replace(seed=1))
    for split in ("train", "test"):
        images, labels = getattr(one, split)
        assert (images.shape, images.dtype, labels.shape) == ((100, 8, 8, 1), np.float32, (100,))
        np.testing.assert_array_equal(images, getattr(again, split).images)
        np.testing.assert_array_equal(labels, getattr(again, split).labels)
        assert np.any(images != getattr(other, split).images)
    assert len({*one.train.labels[:32].tolist()}) > 5  # Not sorted by class.


def test_all_images_of_a_small_split_are_there_with_their_labels(trained, digits):
    subject = made(trained, digits, Settings(examples=10_000))
    assert (len(subject.train.labels), len(subject.test.labels)) == (1500, 297)
    images, labels = evaluation.sample(digits, config().data, trained, "test", 10_000)
    found = {image.tobytes(): label for image, label in zip(*subject.test, strict=True)}
    assert found == {image.tobytes(): label for image, label in zip(images, labels, strict=True)}


def test_the_batch_is_the_first_training_images(trained, digits):
    subject = made(trained, digits)
    np.testing.assert_array_equal(subject.batch.images, subject.train.images[:32])
    np.testing.assert_array_equal(subject.batch.labels, subject.train.labels[:32])


@pytest.mark.parametrize(
    ("step", "is_made", "has_running_statistics"),
    [(0, False, False), (SETTLED - 1, False, False), (SETTLED, False, True), (None, False, True), (0, True, True)],
)
def test_running_statistics_are_used_once_they_are_of_the_net(trained, digits, step, is_made, has_running_statistics):
    subject = made(trained, digits, step=step, is_made=is_made)
    assert (subject.step, subject.has_running_statistics, subject.uses_batch_statistics) == (
        step,
        has_running_statistics,
        not has_running_statistics,
    )


def test_seed_and_purpose_decide_random_numbers(trained, digits):
    subject = made(trained, digits)
    other_seed = subject._replace(settings=SETTINGS._replace(seed=1))
    drawn = [each.random(purpose).random() for each in (subject, other_seed) for purpose in (1, 2)]
    assert len({*drawn}) == 4
    assert subject.random(1).random() == drawn[0]
