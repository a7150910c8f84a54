"""Prepared TFDS data sets, read through ``tfds.data_source`` without TensorFlow."""

import io
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
from absl import logging

from resnet_jax.data import cache, metadata
from resnet_jax.data.builder import open_builder
from resnet_jax.data.dataset import Dataset, Split
from resnet_jax.data.locate import located, reporting_damage
from resnet_jax.errors import UserError

if TYPE_CHECKING:  # At run time it is imported late: it takes a second that a cached data set does not need.
    import tensorflow_datasets as tfds

# Pillow's mode of 8-bit images by number of channels.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def load(name: str, data_dir: str | None) -> Dataset:
    """Return the train and test split of TFDS data set ``name``, downloaded and prepared first if needed.

    Args:
      name: a TFDS name, optionally with configuration and version: "cifar10", "emnist/digits", "cifar10:3.0.2".
      data_dir: folder of TFDS data sets; None for ``TFDS_DATA_DIR``, else TFDS's own default, ~/tensorflow_datasets.

    Raises:
      UserError: the data set is unknown, missing or damaged, or its images differ in size or lack a single label.
    """
    with located(name, data_dir) as folder:
        return cache.cached(folder, lambda: read(folder))


def open_sources(name: str, data_dir: str | None) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the names of the classes and the train and test split of TFDS data set ``name``, images still encoded.

    Arguments are as for ``load``. "validation" serves as test split if that is missing or has no labels, as in
    ImageNet.

    Raises:
      UserError: the data set is unknown, missing or damaged, or its images lack a single label.
    """
    with located(name, data_dir) as folder, reporting_damage(folder):
        info = open_builder(folder).info
        keys = image_and_label(folder, info)
        num_classes = info.features[keys[1]].num_classes
        sources = {
            split: PreparedSource(str(folder), split, keys, info.splits[split].num_examples, num_classes)
            for split in ("train", "test", "validation")
            if split in info.splits and info.splits[split].num_examples
        }
        labelled = [split for split in ("test", "validation") if split in sources and sources[split][0][1] >= 0]
        if "train" not in sources or not labelled:
            raise UserError(
                f"{folder} has the splits {', '.join(info.splits)}; "
                "config.data.name must be a data set with a train and a test (or validation) split, with labels."
            )
        class_names = check_classes(info.features[keys[1]], str(folder))
        return class_names, {"train": sources["train"], "test": sources[labelled[0]]}


class PreparedSource:
    """The encoded images of one split of a prepared data set, an ``ImageSource``."""

    def __init__(self, folder: str, split: str, keys: tuple[str, str], examples: int, num_classes: int) -> None:
        """Describe ``split`` of the data set in ``folder``; ``keys`` are its features for image and label."""
        self._shards = sorted(pathlib.Path(folder).glob(f"*-{split}.*-of-*"))
        self._folder, self._split, self._keys, self._examples = folder, split, keys, examples
        self._num_classes = num_classes
        self._files: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Drop open files: each process opens its own."""
        return self.__dict__ | {"_files": None}

    def __len__(self) -> int:
        return self._examples

    def __getitem__(self, index: int) -> tuple[bytes, int, str]:
        """Return the content of image ``index``, its label (-1 if it has none) and its name for error messages.

        Raises:
          UserError: the label is out of range.
        """
        if self._files is None:
            import tensorflow_datasets as tfds

            encoded = {self._keys[0]: tfds.decode.SkipDecoding()}
            self._files = open_builder(pathlib.Path(self._folder)).as_data_source(self._split, decoders=encoded)
        example = self._files[index]
        name = example.get("file_name", b"")
        name = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        where = f"{name or f'image {index}'} in split {self._split!r} of {self._folder}"
        label = int(example[self._keys[1]])
        if not -1 <= label < self._num_classes:
            raise UserError(
                f"{where} has label {label}, but there are {self._num_classes} classes; prepare the data set again."
            )
        return example[self._keys[0]], label, where

    def examples_by_class(self) -> list[int]:
        """Return the number of all examples."""
        return [len(self)]

    @property
    def file_count(self) -> int:
        """The number of files that hold the split."""
        return len(self._shards)

    def files(self, most: int) -> list[str]:
        """Return the paths of ``most`` files, evenly spread, or of all if there are fewer."""
        chosen = np.linspace(0, len(self._shards) - 1, min(most, len(self._shards)))
        return [str(self._shards[int(index)]) for index in chosen]

    def names_digest(self) -> str:
        """Return the names of the files."""
        return repr([shard.name for shard in self._shards])


def read(folder: pathlib.Path) -> Dataset:
    """Decode the train and test split ("validation" if there is no "test") of the data set in ``folder``.

    Raises:
      UserError: the data set is damaged, or its images differ in size or lack a single label.
    """
    with reporting_damage(folder):
        return decode(folder)


def decode(folder: pathlib.Path) -> Dataset:
    """Do the work of ``read``, which reports what this raises on a damaged data set."""
    import tensorflow_datasets as tfds

    builder = open_builder(folder)
    info = builder.info
    image_key, label_key = image_and_label(folder, info)
    class_names = check_classes(info.features[label_key], str(folder))
    sources = {"train": "train", "test": "test" if "test" in info.splits else "validation"}
    if not set(sources.values()) <= set(info.splits):
        raise UserError(
            f"{folder} has the splits {', '.join(info.splits)}; "
            "config.data.name must be a data set with a train and a test (or validation) split."
        )
    splits = {}
    for split, source in sources.items():
        if not info.splits[source].num_examples:
            raise UserError(f"{folder} has no examples in split {source!r}; prepare the data set again.")
        logging.info("decoding the %s split of %s, once", source, folder)
        # TFDS would decode images of any format as if they had the declared one.
        examples = builder.as_data_source(split=source, decoders={image_key: tfds.decode.SkipDecoding()})
        encoded, labels = zip(*[(example[image_key], example[label_key]) for example in examples], strict=True)
        images = decode_images(encoded, info.features[image_key], f"{folder} in split {source!r}")
        splits[split] = Split(images, check_labels(labels, info.features[label_key], f"{folder} in split {source!r}"))
    train, test = (splits[split].images.shape[1:] for split in ("train", "test"))
    if train != test:
        raise UserError(
            f"{folder} has training images of {size(train)} and test images of {size(test)} pixels; "
            "config.data.name must be a data set of uint8 images of one size."
        )
    return Dataset(class_names, splits)


def decode_images(encoded: Sequence[bytes], feature: "tfds.features.Image", where: str) -> np.ndarray:
    """Return the images that ``feature`` declares, uint8 ``[examples, height, width, channels]``.

    Raises:
      UserError: they are not uint8, differ in size or are not as declared; the message begins with ``where``.
    """
    *sides, channels = feature.shape
    mode = MODES.get(channels)
    if feature.np_dtype != np.uint8 or mode is None:
        raise UserError(
            f"{where} has {feature.np_dtype} images of shape {feature.shape}; "
            "config.data.name must be a data set of uint8 images of 1, 3 or 4 channels."
        )
    images = []
    for file in encoded:
        with PIL.Image.open(io.BytesIO(metadata.stripped(file))) as image:
            images.append(np.asarray(image))
            if image.mode != mode:
                raise UserError(
                    f"{where} has images of mode {image.mode}, but its features.json declares {mode}; "
                    "prepare the data set again."
                )
    sizes = sorted({image.shape[:2] for image in images})
    if len(sizes) != 1:
        raise UserError(
            f"{where} has images of several sizes ({', '.join(map(size, sizes[:3]))}); "
            "set config.data.image_size, the side of the crops, e.g. 224."
        )
    if any(declared not in (None, side) for declared, side in zip(sides, sizes[0], strict=True)):
        raise UserError(
            f"{where} has images of {size(sizes[0])} pixels, but its features.json declares {size(sides)}; "
            "prepare the data set again."
        )
    return np.stack(images).reshape(len(images), *sizes[0], channels)


def size(shape: Sequence[int]) -> str:
    """Return height and width of ``shape``, as in "32x32"."""
    return "x".join(map(str, shape[:2]))


def check_labels(labels: Sequence[int], feature: "tfds.features.ClassLabel", where: str) -> np.ndarray:
    """Return ``labels`` as int32 ``[examples]``.

    Raises:
      UserError: some are out of range; the message begins with ``where``.
    """
    least, most = min(labels), max(labels)
    if least < 0 or most >= feature.num_classes:
        raise UserError(
            f"{where} has labels from {least} to {most} but {feature.num_classes} classes; prepare the data set again."
        )
    return np.array(labels, np.int32)


def check_classes(feature: "tfds.features.ClassLabel", where: str) -> tuple[str, ...]:
    """Return the names of the classes of ``feature``.

    Raises:
      UserError: there are fewer than two classes, or one without a name; the message begins with ``where``.
    """
    if feature.num_classes is None or feature.num_classes < 2:
        raise UserError(f"{where} has fewer than two classes; config.data.name must be a data set of at least two.")
    if len(feature.names) != feature.num_classes:
        raise UserError(
            f"{where} has {feature.num_classes} classes but {len(feature.names)} class names in its labels.txt; "
            "prepare the data set again."
        )
    return tuple(feature.names)


def image_and_label(folder: pathlib.Path, info: "tfds.core.DatasetInfo") -> tuple[str, str]:
    """Return the names of the features that are the image and its label.

    Raises:
      UserError: there is not exactly one image and one label.
    """
    import tensorflow_datasets as tfds

    images = [key for key, feature in info.features.items() if isinstance(feature, tfds.features.Image)]
    labels = [key for key, feature in info.features.items() if isinstance(feature, tfds.features.ClassLabel)]
    pair = info.supervised_keys or (images + labels)
    if len(pair) != 2 or pair[0] not in images or pair[1] not in labels:
        raise UserError(
            f"{folder} has the features {', '.join(sorted(info.features))}; "
            "config.data.name must be a data set with one image and one class label per example."
        )
    return pair[0], pair[1]
