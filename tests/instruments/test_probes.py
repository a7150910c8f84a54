"""Probes, against ridge regression by its normal equations, its ridge chosen by refitting without each image."""

import numpy as np
import pytest

from resnet_jax.instruments import Images, probes
from tests.instruments.subjects import given_subject, images


def fitted(rows, labels, ridge):
    """Return scores of other rows by one-hot targets; ``ridge`` is by image and mean variance."""
    targets = np.eye(labels.max() + 1)[labels]
    deviations = rows - rows.mean(0)
    penalty = ridge * np.eye(rows.shape[1])
    weights = np.linalg.solve(deviations.T @ deviations + penalty, deviations.T @ (targets - targets.mean(0)))
    return lambda others: (others - rows.mean(0)) @ weights + targets.mean(0)


def left_out_error(rows, labels, ridge):
    targets = np.eye(labels.max() + 1)[labels]
    others = [np.delete(np.arange(len(rows)), index) for index in range(len(rows))]
    scores = [fitted(rows[rest], labels[rest], ridge)(rows[index]) for index, rest in enumerate(others)]
    return np.mean((np.stack(scores) - targets) ** 2)


def clouds(count, seed, size=1.0, width=6):
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    centres = np.random.default_rng(9).normal(size=(3, width))
    return Images(size * (5 + centres[labels] + 0.8 * random.normal(size=(count, width))), labels)


@pytest.mark.parametrize("size", [1, 1e-4, 1e4])
@pytest.mark.parametrize("width", [6, 60], ids=["narrow", "wider than many"])
def test_a_probe_is_ridge_regression_with_the_ridge_that_predicts_left_out_images(size, width):
    train, test = clouds(45, 0, size, width), clouds(60, 1, size, width)
    found = probes.probe(train, test)
    unit = len(train.labels) * train.images.var(0).mean()
    errors = [left_out_error(*train, ridge * unit) for ridge in probes.RIDGES]
    best = probes.RIDGES[np.argmin(errors)]
    assert found["ridge"] == pytest.approx(best)
    scores = fitted(*train, best * unit)
    for split, each in (("train_error", train), ("test_error", test)):
        assert found[split] == pytest.approx(np.mean(scores(each.images).argmax(1) != each.labels))


def test_features_that_say_nothing_leave_the_most_frequent_class():
    labels = np.array([0, 1, 1, 2, 1, 0])
    found = probes.probe(Images(np.ones((6, 4)), labels), Images(np.ones((6, 4)), labels))
    assert found["train_error"] == found["test_error"] == pytest.approx(0.5)


def test_each_block_is_probed_on_its_averages_and_the_input_on_its_pixels():
    train, test = images(60), images(30, 1)

    def outputs(x, _):
        sign = np.sign(x[:, :1, :1])
        return {"first": np.ones((len(x), 2, 2, 3)), "second": np.concatenate([sign, -sign, 3 * sign], axis=1)}

    sign = [each._replace(labels=(each.images[:, 0, 0, 0] > 0).astype(int)) for each in (train, test)]
    subject = given_subject(outputs, *sign)
    found = probes.measure(subject)
    majority = np.bincount(sign[0].labels).argmax()
    assert found["test_error"] == [pytest.approx(np.mean(sign[1].labels != majority)), 0]
    assert found["train_error"] == [pytest.approx(np.mean(sign[0].labels != majority)), 0]
    assert found["input"] == probes.probe(*(each._replace(images=each.images.reshape(-1, 64)) for each in sign))
    assert (found["train_images"], found["test_images"], len(found["ridge"])) == (60, 30, 2)
