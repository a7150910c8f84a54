"""From ``config.data`` to a data set: which sources there are, and how a validation split is held out.

Without ``image_size`` a data set is loaded into memory (``Dataset``); with it, images stay encoded files that are
decoded and cropped when they are needed (``Stream``).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from ml_collections import ConfigDict

from resnet_jax.data import digits, folder, locate, prepared, sampling
from resnet_jax.data.dataset import Dataset, Split, downsample, downsampled_shape
from resnet_jax.errors import UserError


class ImageSource(Protocol):
    """Image files in a fixed order, with random access from any process: it must pickle."""

    def __len__(self) -> int:
        """Return the number of examples."""

    def __getitem__(self, index: int) -> tuple[bytes, int, str]:
        """Return the content of file ``index``, its label, and its name for error messages."""

    def examples_by_class(self) -> list[int]:
        """Return the number of examples of each class, or of all if the classes are known only by reading them."""

    def names_digest(self) -> str:
        """Return a text that differs between sources whose files have other names or labels."""

    @property
    def file_count(self) -> int:
        """The number of files that hold the examples."""

    def files(self, most: int) -> list[str]:
        """Return the paths of ``most`` of these files, evenly spread, or of all if there are fewer."""


class Subset(NamedTuple):
    """Some examples of a source, as a source."""

    source: ImageSource
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[bytes, int, str]:  # type: ignore[override]
        return self.source[int(self.indices[index])]

    def examples_by_class(self) -> list[int]:
        """Return the number of all examples."""
        return [len(self)]

    def names_digest(self) -> str:
        """Return a text that differs between sources, or between subsets of one."""
        return f"{self.source.names_digest()} {self.indices.tolist()}"

    @property
    def file_count(self) -> int:
        """The number of files of the whole source."""
        return self.source.file_count

    def files(self, most: int) -> list[str]:
        """Return paths of the whole source."""
        return self.source.files(most)


class Stream(NamedTuple):
    """A classification data set whose images are decoded when they are needed.

    Attributes:
      class_names: of each label.
      splits: "train" and "test", and "validation" if training examples are held out.
      side: height and width of the crops that a net sees.
    """

    class_names: tuple[str, ...]
    splits: dict[str, ImageSource]
    side: int

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)


class Facts(NamedTuple):
    """What a run must fit of its data set.

    Attributes:
      examples: number of training examples.
      image_shape: ``(height, width, channels)`` of what the net sees.
      num_classes: number of classes.
      class_names: by label; None if they are not known.
    """

    examples: int
    image_shape: tuple[int, ...]
    num_classes: int
    class_names: Sequence[str] | None


class Origin(NamedTuple):
    """Where data sets come from. Both functions take ``config.data``; None if there is no such form.

    Attributes:
      load: returns the data set in memory.
      open: returns the names of the classes, and a source for "train" and "test".
    """

    load: Callable[[ConfigDict], Dataset] | None = None
    open: Callable[[ConfigDict], tuple[tuple[str, ...], dict[str, ImageSource]]] | None = None


def open_folder(config: ConfigDict) -> tuple[tuple[str, ...], dict[str, ImageSource]]:
    """Return the names of the classes and the splits of the image folders in ``config.data_dir``."""
    if config.data_dir is None:
        raise UserError("config.data.name=folder needs config.data.data_dir, the folder of the class folders.")
    splits = folder.load(config.data_dir, config.test_fraction)
    return splits["train"].class_names, {**splits}


# By config.data.name; any other name is a data set of TensorFlow Datasets.
ORIGINS = {"digits": Origin(load=lambda config: digits.load()), "folder": Origin(open=open_folder)}
TFDS = Origin(
    load=lambda config: prepared.load(config.name, config.data_dir),
    open=lambda config: prepared.open_sources(config.name, config.data_dir),
)

# Image shape and number of classes of data sets whose nets are described without reading the data.
SHAPES = {
    "digits": ((8, 8, 1), 10),
    "cifar10": ((32, 32, 3), 10),
    "cifar100": ((32, 32, 3), 100),
    "imagenet2012": ((224, 224, 3), 1000),
}


def load(config: ConfigDict) -> Dataset | Stream:
    """Return the data set of ``config``, the ``data`` part of a run's config: a stream if ``image_size`` is set.

    Raises:
      UserError: the data set is unknown, missing or unsuitable, too small for ``validation_examples``, or its images
        cannot be divided by ``downsample``.
    """
    origin = ORIGINS.get(config.name, TFDS)
    if config.image_size is None:
        if origin.load is None:
            raise UserError(
                f"config.data.name={config.name} needs config.data.image_size, the side of the crops, e.g. 224."
            )
        return hold_out(downsample(origin.load(config), config.downsample), config.validation_examples)
    if origin.open is None:
        raise UserError(f"config.data.name={config.name} has no image files to crop; set config.data.image_size=None.")
    class_names, splits = origin.open(config)
    return Stream(class_names, hold_out_sources(splits, config.validation_examples), config.image_size)


def hold_out(dataset: Dataset, validation_examples: int) -> Dataset:
    """Return ``dataset`` with its last ``validation_examples`` training examples as split "validation".

    Raises:
      UserError: no training example would be left.
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


def hold_out_sources(splits: dict[str, ImageSource], validation_examples: int) -> dict[str, ImageSource]:
    """Return ``splits`` with training examples, drawn at random but always the same, as split "validation".

    Image folders are sorted by class, so the last examples would all be of one class.

    Raises:
      UserError: no training example would be left, or none of a class.
    """
    train = splits["train"]
    check_held_out(validation_examples, len(train))
    if validation_examples == 0:
        return splits
    order = sampling.epoch_order(0, 0, len(train))
    validation, remaining = np.sort(order[:validation_examples]), np.sort(order[validation_examples:])
    if isinstance(train, folder.FolderSource):
        folder.check_trained(train, train.labels[remaining], f"config.data.validation_examples={validation_examples}")
    return splits | {"train": Subset(train, remaining), "validation": Subset(train, validation)}


def check_held_out(validation_examples: int, examples: int) -> None:
    """Raise a UserError unless ``examples`` training examples are more than ``validation_examples``."""
    if not 0 <= validation_examples < examples:
        raise UserError(
            f"config.data.validation_examples={validation_examples} must be from 0 to {examples - 1}: "
            f"there are {examples} training examples."
        )


def contents(dataset: Dataset | Stream) -> str:
    """Return the number of classes, of images in each split and of ignored files as text."""
    names = {"train": "training"}
    if isinstance(dataset, Stream):
        counts = {name: len(source) for name, source in dataset.splits.items()}
    else:
        counts = {name: len(split.labels) for name, split in dataset.splits.items()}
    images = [f"{counts[name]:,} {names.get(name, name)}" for name in ("train", "validation", "test") if name in counts]
    text = f"{dataset.num_classes:,} classes, {', '.join(images[:-1])} and {images[-1]} images"
    count = ignored_files(dataset)
    return text + (f", {count:,} file{'s' * (count > 1)} ignored" if count else "")


def ignored_files(dataset: Dataset | Stream) -> int:
    """Return the number of files in the class folders of ``dataset`` that are not used, 0 if it has no such folders."""
    sources = dataset.splits.values() if isinstance(dataset, Stream) else ()
    whole = (source.source if isinstance(source, Subset) else source for source in sources)
    # Two splits may come from the same folders.
    folders = {source.root: source for source in whole if isinstance(source, folder.FolderSource)}
    return sum(sum(source.ignored.values()) for source in folders.values())


def image_shape(dataset: Dataset | Stream) -> tuple[int, ...]:
    """Return ``(height, width, channels)`` of the images that a net is trained on."""
    if isinstance(dataset, Stream):
        return (dataset.side, dataset.side, 3)
    return dataset.splits["train"].images.shape[1:]


def facts(dataset: Dataset | Stream) -> Facts:
    """Return the facts of ``dataset`` that a run must fit."""
    train = dataset.splits["train"]
    examples = len(train.labels) if isinstance(train, Split) else len(train)
    return Facts(examples, image_shape(dataset), dataset.num_classes, dataset.class_names)


def is_prepared(config: ConfigDict) -> bool:
    """Return whether the data set of ``config`` can be loaded without being downloaded and prepared first.

    Raises:
      UserError: its name is unknown, or it is incomplete.
    """
    return config.name in ORIGINS or locate.is_prepared(config.name, config.data_dir)


def shape(config: ConfigDict) -> tuple[tuple[int, ...], int]:
    """Return ``(height, width, channels)`` and the number of classes of the data set of ``config``.

    Raises:
      UserError: the data set is not one of ``SHAPES`` and cannot be loaded, or its images cannot be divided by
        ``downsample``.
    """
    if config.name in SHAPES:
        usual, num_classes = SHAPES[config.name]
        if config.image_size is not None:
            return (config.image_size, config.image_size, 3), num_classes
        return downsampled_shape(usual, config.downsample), num_classes
    dataset = load(config)
    return image_shape(dataset), dataset.num_classes
