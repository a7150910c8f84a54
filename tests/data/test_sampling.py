"""The order of examples."""

import numpy as np
import pytest

from resnet_jax.data import sampling


@pytest.mark.parametrize(("examples", "batch_size"), [(100, 32), (100, 20), (10, 32), (7, 7)])
def test_every_epoch_visits_every_example_once(examples, batch_size):
    steps = 5 * examples // batch_size + 1
    stream = sampling.batch_indices(3, range(steps), batch_size, examples)
    assert stream.shape == (steps, batch_size)
    stream = stream.ravel()
    epochs = stream[: len(stream) // examples * examples].reshape(-1, examples)
    assert len(epochs) >= 4
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(examples), (len(epochs), 1)))
    if examples > 20:
        assert len({epoch.tobytes() for epoch in epochs}) == len(epochs)


def test_a_batch_depends_on_seed_and_step_alone():
    first = sampling.batch_indices(0, range(1234, 1235), 128, 50_000)
    assert first.shape == (1, 128)
    sampling.batch_indices(0, range(9, 10), 128, 50_000)
    sampling.epoch_order.cache_clear()
    np.testing.assert_array_equal(sampling.batch_indices(0, range(1234, 1235), 128, 50_000), first)
    np.testing.assert_array_equal(sampling.batch_indices(0, range(1000, 2000), 128, 50_000)[234:235], first)
    assert np.any(sampling.batch_indices(1, range(1234, 1235), 128, 50_000) != first)
    assert first.dtype == np.int32


@pytest.mark.parametrize("batch_size", [1, 8, 30, 64])
def test_evaluation_visits_every_example_of_the_split_once(batch_size):
    split = range(100, 130)
    visits = np.zeros(200)
    for indices, weights in sampling.evaluation_batches(split, batch_size):
        assert indices.shape == weights.shape == (batch_size,)
        np.add.at(visits, indices, weights)
    np.testing.assert_array_equal(visits, [index in split for index in range(200)])
