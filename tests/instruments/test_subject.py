"""Subjects: a net and the images on which it is measured."""

import jax
import numpy as np
import pytest

from resnet_jax import data, evaluation, instruments
from resnet_jax.config import default
from resnet_jax.errors import UserError
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
    was_made = changes.pop("was_made", False)
    return subject_of(trained._replace(**changes), digits, config(), settings, was_made)


def test_images_are_those_of_the_seed(trained, digits):
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
    ("step", "was_made", "has_statistics"),
    [(0, False, False), (SETTLED - 1, False, False), (SETTLED, False, True), (None, False, True), (0, True, True)],
)
def test_running_statistics_are_used_once_they_are_of_the_net(trained, digits, step, was_made, has_statistics):
    subject = made(trained, digits, step=step, was_made=was_made)
    assert (subject.step, subject.has_statistics, subject.by_batch) == (step, has_statistics, not has_statistics)


def test_random_numbers_are_those_of_seed_and_purpose(trained, digits):
    subject = made(trained, digits)
    other_seed = subject._replace(settings=SETTINGS._replace(seed=1))
    drawn = [each.random(purpose).random() for each in (subject, other_seed) for purpose in (1, 2)]
    assert len({*drawn}) == 4
    assert subject.random(1).random() == drawn[0]


def test_a_run_is_measured_as_it_was_after_its_last_step_or_before_its_first(whole):
    last, first = instruments.of_run(whole, settings=SETTINGS), instruments.of_run(whole, 0, SETTINGS)
    assert (last.step, first.step) == (12, 0)
    assert (last.name, last.seed, last.data, last.net.title) == ("run", 0, "digits", "residual-8")
    assert not last.has_statistics  # After so few steps.
    trained = evaluation.of_run(whole, parallel.device_mesh())
    jax.tree.map(np.testing.assert_array_equal, last.variables, trained.variables)
    kernels = [subject.variables["params"]["stem"]["conv"]["kernel"] for subject in (first, last)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0


def test_images_of_a_run_are_normalised_as_in_its_training(whole, digits):
    subject = instruments.of_run(whole, settings=SETTINGS)
    mean, _ = data.normalisation(digits, config().data)
    for split, found in (("train", subject.train), ("test", subject.test)):
        pixels, labels = digits.splits[split]
        distances = np.abs(found.images[:, None] - (pixels / 255 - mean)).max((2, 3, 4))
        assert distances.min(1).max() < 1e-6
        np.testing.assert_array_equal(labels[distances.argmin(1)], found.labels)


def test_without_a_net_there_is_no_subject(whole, tmp_path):
    with pytest.raises(UserError, match=r"has no net of step 7, only of 0, 10, 12"):
        instruments.of_run(whole, 7, SETTINGS)
    with pytest.raises(UserError, match="is not a run directory"):
        instruments.of_run(tmp_path)
