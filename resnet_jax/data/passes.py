"""One pass over a split: each of its images once, and by what the training images are normalised."""

import concurrent.futures
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import grain
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from resnet_jax.data import images, sampling
from resnet_jax.data.dataset import Dataset
from resnet_jax.data.sources import ImageSource, Stream
from resnet_jax.data.stream import SKIP_HINT, cores
from resnet_jax.errors import UserError

# Mean and variance of the training images of a stream are taken over this many.
MEAN_EXAMPLES = 1_000
# Mean and standard deviation of the colours of ImageNet, by which most published nets, of any data set, normalise.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Statistics(NamedTuple):
    """Statistics of images whose pixels are scaled to [0, 1].

    Attributes:
      mean: of each pixel, float64 ``[height, width, channels]``.
      variance: of each channel, over examples and places, float64 ``[channels]``.
    """

    mean: np.ndarray
    variance: np.ndarray


def examples(dataset: Dataset | Stream, split: str, skip: bool = False) -> tuple[int, Iterable[tuple[np.ndarray, int]]]:
    """Return the number of examples of ``split``, and its images ``[height, width, channels]`` with their labels.

    With ``skip`` images that cannot be decoded are left out; without, they raise a UserError.
    """
    if isinstance(dataset, Stream):
        return len(dataset.splits[split]), whole_images(dataset.splits[split], skip)
    pixels, labels = dataset.splits[split]
    return len(labels), zip(pixels, labels.tolist(), strict=True)


def normalisation(dataset: Dataset | Stream, config: ConfigDict) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the mean to subtract from pixels scaled to [0, 1], and the deviation to divide the difference by.

    Args:
      dataset: data set whose split "train" is measured.
      config: the ``data`` part of a run's config.

    Returns:
      The mean, float32 ``[height, width, channels]`` or ``[1, 1, channels]``; the standard deviation, float32
      ``[1, 1, channels]``, or None for ``config.std="none"``. Where all values are one, which leaves nothing to divide,
      it is 1.
    """
    if isinstance(dataset, Stream):
        mean, variance = crop_statistics(dataset.splits["train"], dataset.side)
    else:
        mean, variance = pixel_statistics(dataset.splits["train"].images)
    of_channels = mean.mean(axis=(0, 1), keepdims=True)
    means = {"pixel": mean, "channel": of_channels, "imagenet": np.array([[IMAGENET_MEAN]])}
    subtracted = means[config.mean].astype(np.float32)
    if config.std == "none":
        return subtracted, None
    if config.std == "imagenet":
        return subtracted, np.array([[IMAGENET_STD]], np.float32)
    if config.std == "scalar":  # The variance within the channels and that between them.
        variance = np.full_like(variance, variance.mean() + of_channels.var())
    return subtracted, np.sqrt(np.where(variance > 0, variance, 1.0)).astype(np.float32)[None, None]


def pixel_statistics(images: np.ndarray) -> Statistics:
    """Return the statistics of uint8 ``images``, ``[examples, height, width, channels]``."""
    total = images.sum(axis=0, dtype=np.int64).sum(axis=(0, 1))
    squares = np.einsum("nhwc,nhwc->c", images, images, dtype=np.int64)  # Without a copy of the images in between.
    variance = channel_variance(total, squares, images[..., 0].size)
    return Statistics(images.mean(axis=0, dtype=np.float64) / 255, variance)


def channel_variance(total: np.ndarray, squares: np.ndarray, count: int) -> np.ndarray:
    """Return the variance of ``count`` pixels, scaled to [0, 1], in each channel by their sum and sum of squares.

    Both sums are of integers, so that the variance of a constant is exactly 0.
    """
    return (squares / count - (total / count) ** 2) / 255**2


def whole_images(source: ImageSource, skip: bool = False) -> Iterator[tuple[np.ndarray, int]]:
    """Yield every image of ``source``, uint8 ``[height, width, 3]`` in its own size, and its label; by threads.

    Raises:
      UserError: an image cannot be decoded, and ``skip`` is False.
    """

    def decode(index: int) -> tuple[np.ndarray, int] | str:
        encoded, label, where = source[index]
        try:
            return images.decode(encoded, where), label
        except images.BadImage as error:
            return str(error)

    options = grain.ReadOptions(num_threads=cores(), prefetch_buffer_size=64)
    for found in grain.MapDataset.range(len(source)).map(decode).to_iter_dataset(options):
        if not isinstance(found, str):
            yield found
        elif skip:
            logging.warning("%s Skipped.", found)
        else:
            raise UserError(f"{found} {SKIP_HINT}")


def crop_statistics(source: ImageSource, side: int) -> Statistics:
    """Return the statistics of central crops, ``[side, side, 3]``, of up to 1,000 examples, always the same ones.

    Raises:
      UserError: none of them can be decoded.
    """
    indices = sampling.epoch_order(0, 0, len(source))[:MEAN_EXAMPLES].tolist()
    total, squares, count = np.zeros((side, side, 3)), np.zeros(3), 0
    for found in central_crops(source, indices, side):
        total, count = total + found, count + 1
        squares += np.einsum("hwc,hwc->c", found, found, dtype=np.int64)
    if not count:
        raise UserError(f"none of {len(indices)} images can be decoded; set config.data.data_dir to other images.")
    return Statistics(total / (255 * count), channel_variance(total.sum(axis=(0, 1)), squares, count * side**2))


def central_crops(source: ImageSource, indices: Iterable[int], side: int) -> Iterator[np.ndarray]:
    """Yield the central crops of examples ``indices`` without those that cannot be decoded; by threads."""

    def crop(index: int) -> np.ndarray | None:
        encoded, _, where = source[index]
        try:
            return images.central_crop(encoded, where, side)
        except images.BadImage:
            return None

    with concurrent.futures.ThreadPoolExecutor() as threads:
        yield from (found for found in threads.map(crop, indices) if found is not None)
