"""A data set in host memory: whole splits as arrays."""

import hashlib
from typing import NamedTuple

import numpy as np


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
      num_classes: number of classes.
      splits: "train" and "test", and "validation" if training examples are held out.
    """

    num_classes: int
    splits: dict[str, Split]


def digest(dataset: Dataset) -> str:
    """Return the SHA-256 of all images and labels of ``dataset``, split by split."""
    sha = hashlib.sha256()
    for name, split in sorted(dataset.splits.items()):
        sha.update(f"{name} {split.images.shape}".encode())
        sha.update(np.ascontiguousarray(split.images).data)
        sha.update(np.ascontiguousarray(split.labels).data)
    return sha.hexdigest()
