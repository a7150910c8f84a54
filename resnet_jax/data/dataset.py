"""A data set in host memory: whole splits as arrays."""

import hashlib
import itertools
import math
from typing import NamedTuple

import numpy as np

from resnet_jax.errors import UserError


class Split(NamedTuple):
    """The examples of one split, in a fixed order.

    Attributes:
      images: uint8 ``[examples, height, width, channels]``.
      labels: int32 ``[examples]``, each in ``[0, num_classes)``.
    """

    images: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    """A classification data set.

    Attributes:
      class_names: of each label.
      splits: "train" and "test", and "validation" if training examples are held out.
    """

    class_names: tuple[str, ...]
    splits: dict[str, Split]

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)


def downsample(dataset: Dataset, factor: int) -> Dataset:
    """Return ``dataset`` with images of means over squares of ``factor`` x ``factor`` pixels.

    Raises:
      UserError: ``factor`` does not divide height and width.
    """
    if factor == 1:
        return dataset
    downsampled_shape(dataset.splits["train"].images.shape[1:], factor)
    splits = {name: Split(means(images, factor), labels) for name, (images, labels) in dataset.splits.items()}
    return dataset._replace(splits=splits)


def means(images: np.ndarray, factor: int) -> np.ndarray:
    """Return the means of ``images`` over squares of ``factor`` x ``factor`` pixels, rounded to the nearest uint8.

    Halves are rounded up.

    Args:
      images: uint8 ``[examples, height, width, channels]``.
      factor: divides height and width.

    Returns:
      Uint8 ``[examples, height / factor, width / factor, channels]``.
    """
    pixels = factor**2
    # Half a divisor beforehand makes a division round. The type holds the sums up to a factor of 4,000.
    total = np.full_like(images[:, ::factor, ::factor], pixels // 2, np.uint32)
    for row, column in itertools.product(range(factor), repeat=2):
        total += images[:, row::factor, column::factor]
    return (total // pixels).astype(np.uint8)


def downsampled_shape(shape: tuple[int, ...], factor: int) -> tuple[int, ...]:
    """Return ``(height, width, channels)`` of images of ``shape`` after ``downsample``.

    Raises:
      UserError: ``factor`` does not divide height and width.
    """
    height, width, channels = shape
    common = math.gcd(height, width)
    if common % factor:
        possible = ", ".join(str(each) for each in range(1, common + 1) if common % each == 0)
        raise UserError(
            f"config.data.downsample={factor} does not divide images of {height}x{width} pixels; "
            f"give one of {possible}."
        )
    return height // factor, width // factor, channels


def digest(dataset: Dataset) -> str:
    """Return the SHA-256 of all images and labels of ``dataset``, split by split."""
    sha = hashlib.sha256()
    for name, split in sorted(dataset.splits.items()):
        sha.update(f"{name} {split.images.shape}".encode())
        sha.update(np.ascontiguousarray(split.images).data)
        sha.update(np.ascontiguousarray(split.labels).data)
    return sha.hexdigest()
