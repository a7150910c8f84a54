"""Subjects of runs."""

import jax
import numpy as np
import pytest

from resnet_jax import data, evaluation, instruments
from resnet_jax.errors import UserError
from resnet_jax.instruments import Settings
from resnet_jax.rundir import read_config
from resnet_jax.training import parallel
from tests.conftest import small_config

SMALL = Settings(examples=20, batch=8)


def test_a_run_is_measured_after_its_last_step_or_before_its_first(whole):
    last, first = instruments.of_run(whole, settings=SMALL), instruments.of_run(whole, 0, SMALL)
    assert (last.step, first.step) == (12, 0)
    assert (last.name, last.seed, last.data, last.net.title) == ("run", small_config().seed, "digits", "residual-8")
    assert not last.has_running_statistics  # After so few steps.
    trained = evaluation.of_run(whole, parallel.device_mesh())
    jax.tree.map(np.testing.assert_array_equal, last.variables, trained.variables)
    kernels = [subject.variables["params"]["stem"]["conv"]["kernel"] for subject in (first, last)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0


def test_images_come_from_the_runs_data_set_normalised_as_in_training(whole):
    subject = instruments.of_run(whole, settings=SMALL)
    config = read_config(whole).config
    dataset = data.load(config.data)
    mean, _ = data.normalisation(dataset, config.data)
    for split, images in (("train", subject.train), ("test", subject.test)):
        pixels, labels = dataset.splits[split]
        rows = {
            ((pixel / 255 - mean).astype(np.float32).round(4).tobytes(), label)
            for pixel, label in zip(pixels, labels, strict=True)
        }
        assert images.images.shape == (20, 8, 8, 1)
        assert all((image.round(4).tobytes(), label) in rows for image, label in zip(*images, strict=True))


def test_without_a_net_there_is_no_subject(whole, tmp_path):
    with pytest.raises(UserError, match=r"has no net of step 7, only of 0, 10, 12"):
        instruments.of_run(whole, 7, SMALL)
    with pytest.raises(UserError, match="is not a run directory"):
        instruments.of_run(tmp_path)
