"""One pass over a split: each of its images once, and the mean of the training images."""

import concurrent.futures
from collections.abc import Iterable, Iterator

import grain
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from resnet_jax.data import images, sampling
from resnet_jax.data.augment import pixel_mean
from resnet_jax.data.dataset import Dataset
from resnet_jax.data.sources import ImageSource, Stream
from resnet_jax.data.stream import SKIP_HINT, cores
from resnet_jax.errors import UserError

# The mean of the training images of a stream is taken over this many.
MEAN_EXAMPLES = 1_000


def examples(dataset: Dataset | Stream, split: str, skip: bool = False) -> tuple[int, Iterable[tuple[np.ndarray, int]]]:
    """Return the number of examples of ``split``, and its images ``[height, width, channels]`` with their labels.

    With ``skip`` images that cannot be decoded are left out; without, they raise a UserError.
    """
    if isinstance(dataset, Stream):
        return len(dataset.splits[split]), whole_images(dataset.splits[split], skip)
    pixels, labels = dataset.splits[split]
    return len(labels), zip(pixels, labels.tolist(), strict=True)


def mean(dataset: Dataset | Stream, config: ConfigDict) -> np.ndarray:
    """Return the mean subtracted from pixels scaled to [0, 1]: float32 ``[height or 1, width or 1, channels]``."""
    if isinstance(dataset, Stream):
        return mean_image(dataset.splits["train"], dataset.side, each_pixel=config.mean == "pixel")
    return pixel_mean(dataset.splits["train"].images)


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


def mean_image(source: ImageSource, side: int, each_pixel: bool) -> np.ndarray:
    """Return the mean of central crops of up to 1,000 examples, always the same ones, with pixels scaled to [0, 1].

    It is float32 ``[side, side, 3]`` if ``each_pixel``, else ``[1, 1, 3]``.

    Raises:
      UserError: none of them can be decoded.
    """
    indices = sampling.epoch_order(0, 0, len(source))[:MEAN_EXAMPLES].tolist()
    total, count = np.zeros((side, side, 3)), 0
    for found in central_crops(source, indices, side):
        total, count = total + found, count + 1
    if not count:
        raise UserError(f"none of {len(indices)} images can be decoded; set config.data.data_dir to other images.")
    mean = total / (255 * count)
    return (mean if each_pixel else mean.mean(axis=(0, 1), keepdims=True)).astype(np.float32)


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
