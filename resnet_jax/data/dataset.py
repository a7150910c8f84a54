"""What every source of images gives: whole splits as arrays in host memory."""

import hashlib
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
    """A classification set.

    Attributes:
      num_classes: number of classes.
      splits: "train" and "test", and "validation" where some of the training examples are held out.
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


def hold_out(dataset: Dataset, validation_examples: int) -> Dataset:
    """Return ``dataset`` with its last ``validation_examples`` training examples as split "validation".

    Raises:
      UserError: there are not so many training examples.
    """
    images, labels = dataset.splits["train"]
    check_held_out(validation_examples, len(labels))
    if validation_examples == 0:
        return dataset
    remaining = len(labels) - validation_examples
    parts = {
        "train": Split(images[:remaining], labels[:remaining]),
        "validation": Split(images[remaining:], labels[remaining:]),
    }
    return dataset._replace(splits=dataset.splits | parts)


def check_held_out(validation_examples: int, examples: int) -> None:
    """Raise a UserError unless some of ``examples`` training examples are left without ``validation_examples``."""
    if not 0 <= validation_examples < examples:
        raise UserError(
            f"config.data.validation_examples={validation_examples} must be from 0 to {examples - 1}: "
            f"there are {examples} training examples."
        )
