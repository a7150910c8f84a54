"""Images and labels: where they come from, in which order a step sees them, how they are augmented."""

from collections.abc import Iterable

import numpy as np
from ml_collections import ConfigDict

from resnet_jax.data import digits, folder, prepared
from resnet_jax.data.augment import pixel_mean
from resnet_jax.data.dataset import Dataset as Dataset
from resnet_jax.data.dataset import Split as Split
from resnet_jax.data.dataset import digest as digest
from resnet_jax.data.dataset import hold_out
from resnet_jax.data.stream import Source, hold_out_of_stream, mean_image, whole_images
from resnet_jax.data.stream import Stream as Stream
from resnet_jax.errors import UserError

# Image shape and number of classes of sets whose nets are described without their data.
SHAPES = {
    "digits": ((8, 8, 1), 10),
    "cifar10": ((32, 32, 3), 10),
    "cifar100": ((32, 32, 3), 100),
    "imagenet2012": ((224, 224, 3), 1000),
}


def load(config: ConfigDict) -> Dataset | Stream:
    """Return the data set that ``config`` (the ``data`` part of a run's config) names.

    It is a stream if ``image_size`` is set, and else in host memory.

    Raises:
      UserError: the set is unknown, missing or unfit, or too small for ``validation_examples``.
    """
    if config.image_size is not None:
        return open_stream(config)
    if config.name == "folder":
        raise UserError("config.data.name=folder needs config.data.image_size, the side of the crops, as 224.")
    dataset = digits.load() if config.name == "digits" else prepared.load(config.name, config.data_dir)
    return hold_out(dataset, config.validation_examples)


def open_stream(config: ConfigDict) -> Stream:
    """Return the stream that ``config`` names: image folders, or a TFDS set."""
    if config.name == "digits":
        raise UserError("the digits are no files to stream; leave config.data.image_size at None.")
    if config.name == "folder":
        if config.data_dir is None:
            raise UserError("config.data.name=folder needs config.data.data_dir, the folder of the class folders.")
        splits: dict[str, Source] = {**folder.load(config.data_dir, config.test_fraction)}
        num_classes = len(splits["train"].class_names)  # type: ignore[attr-defined]
    else:
        num_classes, splits = prepared.open_sources(config.name, config.data_dir)
    return Stream(num_classes, hold_out_of_stream(splits, config.validation_examples), config.image_size)


def examples(dataset: Dataset | Stream, split: str, skip: bool = False) -> tuple[int, Iterable[tuple[np.ndarray, int]]]:
    """Return how many examples ``split`` has, and the images ``[height, width, channels]`` and labels themselves.

    With ``skip`` images that cannot be decoded are left out, instead of an error.
    """
    if isinstance(dataset, Stream):
        return len(dataset.splits[split]), whole_images(dataset.splits[split], skip)
    images, labels = dataset.splits[split]
    return len(labels), zip(images, labels.tolist(), strict=True)


def mean(dataset: Dataset | Stream, config: ConfigDict) -> np.ndarray:
    """Return what training subtracts from images in units of 255: float32 ``[height or 1, width or 1, channels]``."""
    if isinstance(dataset, Stream):
        return mean_image(dataset.splits["train"], dataset.side, each_pixel=config.mean == "pixel")
    return pixel_mean(dataset.splits["train"].images)


def image_shape(dataset: Dataset | Stream) -> tuple[int, ...]:
    """Return ``(height, width, channels)`` of what a net sees in training."""
    if isinstance(dataset, Stream):
        return (dataset.side, dataset.side, 3)
    return dataset.splits["train"].images.shape[1:]


def shape(config: ConfigDict) -> tuple[tuple[int, ...], int]:
    """Return ``(height, width, channels)`` and the number of classes of the set that ``config`` names.

    Raises:
      UserError: the set is none of the usual ones and cannot be loaded.
    """
    if config.name in SHAPES:
        usual, num_classes = SHAPES[config.name]
        return usual if config.image_size is None else (config.image_size, config.image_size, 3), num_classes
    dataset = load(config)
    return image_shape(dataset), dataset.num_classes
