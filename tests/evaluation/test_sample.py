"""The images on which surgery compares nets, from memory and from a stream."""

import numpy as np

from resnet_jax import data, evaluation, models
from resnet_jax.config import default
from resnet_jax.evaluation import sample
from tests.images import write_folder


def net(crop=None):
    mean, std = np.full((1, 1, 3), 0.5, np.float32), np.full((1, 1, 3), 2, np.float32)
    return evaluation.TrainedNet("net", models.complete({}), 3, None, {}, mean, std, crop)


def test_they_are_always_the_same_and_of_all_classes_and_normalised_as_for_the_net():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 4, 4, 3), np.uint8)
    labels = np.repeat(np.arange(3, dtype=np.int32), 100)
    dataset = data.Dataset(("a", "b", "c"), {"train": data.Split(pixels, labels)})
    images, of_classes = sample(dataset, default().data, net(), "train", 30)
    assert (images.shape, images.dtype, of_classes.shape) == ((30, 4, 4, 3), np.float32, (30,))
    assert {*of_classes.tolist()} == {0, 1, 2}
    again, _ = sample(dataset, default().data, net(), "train", 30)
    np.testing.assert_array_equal(images, again)
    whole, of_classes = sample(dataset, default().data, net(), "train", 1000)
    np.testing.assert_allclose(whole, (pixels / 255 - 0.5) / 2, atol=1e-6)
    np.testing.assert_array_equal(of_classes, labels)


def test_of_a_stream_they_are_central_crops(tmp_path):
    config = default().data
    config.name, config.data_dir, config.image_size = "folder", str(write_folder(tmp_path)), 32
    images, labels = sample(data.load(config), config, net(crop=32), "train", 12)
    assert (images.shape, labels.shape) == ((12, 32, 32, 3), (12,))
    # A class has its own tint.
    np.testing.assert_array_equal(images.mean((1, 2)).argmax(1), labels)
