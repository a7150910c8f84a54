"""Sets that TFDS has prepared, read through ``tfds.data_source`` without TensorFlow."""

import contextlib
import difflib
import io
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
from absl import logging
from rich.filesize import decimal

from resnet_jax.data import cache, prepare
from resnet_jax.data.dataset import Dataset, Split
from resnet_jax.errors import UserError
from resnet_jax.rundir import read_json

if TYPE_CHECKING:  # Imported late in earnest: it takes a second that a cached set does not need.
    import tensorflow_datasets as tfds

# Name, configurations and version, of which a part may be any.
NAME = re.compile(r"\w[\w.+-]*(/\w[\w.+-]*)*(:(\d+|\*)\.(\d+|\*)\.(\d+|\*))?")
# What Pillow calls 8-bit images of so many channels.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def load(name: str, data_dir: str | None) -> Dataset:
    """Return the train and test split of TFDS set ``name``, prepared first if it is not and there is a network.

    Args:
      name: a TFDS name, with configuration and version where wanted: "cifar10", "emnist/digits", "cifar10:3.0.2".
      data_dir: where TFDS prepares; None for ``TFDS_DATA_DIR`` or else TFDS's own default, ~/tensorflow_datasets.

    Raises:
      UserError: the set is unknown, missing, damaged, or no set of images of one size with one label each.
    """
    with located(name, data_dir) as folder:
        return cache.cached(folder, lambda: read(folder))


def open_sources(name: str, data_dir: str | None) -> tuple[int, dict[str, Any]]:
    """Return the number of classes and the train and test split of TFDS set ``name``, whose images stay encoded.

    The arguments are those of ``load``. "validation" is taken for test where that is missing or, as ImageNet's, has no
    labels.

    Raises:
      UserError: the set is unknown, missing, damaged, or no set of images with one label each.
    """
    with located(name, data_dir) as folder, told_if_damaged(folder):
        import tensorflow_datasets as tfds

        info = tfds.builder_from_directory(str(folder)).info
        keys = image_and_label(folder, info)
        num_classes = info.features[keys[1]].num_classes
        sources = {
            split: Source(str(folder), split, keys, info.splits[split].num_examples, num_classes)
            for split in ("train", "test", "validation")
            if split in info.splits and info.splits[split].num_examples
        }
        labelled = [split for split in ("test", "validation") if split in sources and sources[split][0][1] >= 0]
        if "train" not in sources or not labelled:
            raise UserError(
                f"{folder} has the splits {', '.join(info.splits)}; "
                "config.data.name must be a set with a train and a test (or validation) split, with labels."
            )
        check_classes(info.features[keys[1]], str(folder))
        return num_classes, {"train": sources["train"], "test": sources[labelled[0]]}


class Source:
    """The encoded images of one split of a prepared set, for random access from any process."""

    def __init__(self, folder: str, split: str, keys: tuple[str, str], examples: int, num_classes: int) -> None:
        """Describe ``split`` of the set in ``folder``; ``keys`` are its features for image and label."""
        self._folder, self._split, self._keys, self._examples = folder, split, keys, examples
        self._num_classes = num_classes
        self._files: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind: each process opens its own."""
        return self.__dict__ | {"_files": None}

    def __len__(self) -> int:
        return self._examples

    def __getitem__(self, index: int) -> tuple[bytes, int, str]:
        """Return the content of image ``index``, its label (-1 if it has none) and what to call it.

        Raises:
          UserError: the label is none of the classes.
        """
        if self._files is None:
            import tensorflow_datasets as tfds

            encoded = {self._keys[0]: tfds.decode.SkipDecoding()}
            self._files = tfds.builder_from_directory(self._folder).as_data_source(self._split, decoders=encoded)
        example = self._files[index]
        name = example.get("file_name", b"")
        name = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        where = f"{name or f'image {index}'} in split {self._split!r} of {self._folder}"
        label = int(example[self._keys[1]])
        if not -1 <= label < self._num_classes:
            raise UserError(f"{where} has label {label}, but there are {self._num_classes} classes; prepare it anew.")
        return example[self._keys[0]], label, where

    def digest(self) -> str:
        """Return what tells this set from others: what TFDS says of it, with sizes and numbers, not its content."""
        return f"{self._split} {pathlib.Path(self._folder, 'dataset_info.json').read_text()}"


@contextlib.contextmanager
def located(name: str, data_dir: str | None, manual_dir: pathlib.Path | None = None) -> Iterator[pathlib.Path]:
    """Give the folder of TFDS set ``name``, prepared first if need be; tell what fails of the storage.

    ``manual_dir`` is that of ``prepare.prepare``.

    Raises:
      UserError: the set is unknown or missing, or its folder cannot be read.
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"config.data.name={name!r} is no name of a data set; give one as cifar10, emnist/digits or cifar10:3.0.2."
        )
    root = prepare.data_root(data_dir)
    try:
        folder = find(name, root)
        if folder is None:
            check_known(name, root)
            prepare.prepare(name, root, manual_dir)
            folder = find(name, root)
            if folder is None:
                raise UserError(f"TFDS prepared {name!r}, but {root} does not hold it; give its folder as data_dir.")
        yield folder
    except OSError as error:
        raise UserError(f"{root} cannot be read ({error}); give another folder as config.data.data_dir.") from error


def find(name: str, root: pathlib.Path) -> pathlib.Path | None:
    """Return the folder under ``root`` that holds the newest prepared version of TFDS set ``name``, or None.

    Raises:
      UserError: the set is there but not whole, or in a file format that cannot be read without TensorFlow.
    """
    name, _, version = name.partition(":")
    found = [folder for folder in (root / name).glob(version or "*.*.*") if re.fullmatch(r"\d+\.\d+\.\d+", folder.name)]
    if not found:
        return None
    newest = max(found, key=lambda folder: [int(part) for part in folder.name.split(".")])
    info = read_json(newest / "dataset_info.json")
    if not isinstance(info, dict):
        raise UserError(
            f"{newest} has no dataset_info.json that describes a set; "
            "remove the folder, and the set is prepared anew, or give another one as config.data.data_dir."
        )
    file_format = info.get("fileFormat", "tfrecord")
    if file_format != "array_record":
        raise UserError(
            f"{newest} holds {file_format} files, which only TensorFlow reads; "
            "give another folder as config.data.data_dir, and the set is prepared there as array_record files."
        )
    return newest


def summary(folder: pathlib.Path) -> str:
    """Return what set is prepared in ``folder``: examples of each split, classes, bytes.

    Raises:
      UserError: the set is damaged.
    """
    import tensorflow_datasets as tfds

    with told_if_damaged(folder):
        info = tfds.builder_from_directory(str(folder)).info
        examples = " and ".join(f"{split.num_examples:,} {name}" for name, split in info.splits.items())
        labels = [feature for feature in info.features.values() if isinstance(feature, tfds.features.ClassLabel)]
    classes = f" of {labels[0].num_classes:,} classes" if labels else ""
    return f"{folder}: {examples} examples{classes}, {decimal(sum(file.stat().st_size for file in folder.iterdir()))}"


def check_known(name: str, root: pathlib.Path) -> None:
    """Raise a UserError that suggests near names unless TFDS has a set called ``name``."""
    import tensorflow_datasets as tfds

    base = name.partition(":")[0].partition("/")[0]
    known = ["digits", *tfds.list_builders(with_community_datasets=False)]
    if base not in known:
        near = difflib.get_close_matches(base, known)
        hint = f"did you mean {' or '.join(near)}?" if near else "take 'digits' or a name of TFDS's catalogue."
        raise UserError(f"config.data.name={name!r} is unknown to TFDS and is not under {root}: {hint}")


def read(folder: pathlib.Path) -> Dataset:
    """Decode the train and test split ("validation" where there is no "test") of the set prepared in ``folder``.

    Raises:
      UserError: the set is damaged, or no set of images of one size with one label each.
    """
    with told_if_damaged(folder):
        return decode(folder)


@contextlib.contextmanager
def told_if_damaged(folder: pathlib.Path) -> Iterator[None]:
    """Turn what reading a damaged set raises into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Of a damaged file TFDS, array_record and Pillow each raise what they like.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(f"{folder} is damaged or not whole ({reason}); remove it and prepare the set anew.") from error


def decode(folder: pathlib.Path) -> Dataset:
    """Do the work of ``read``, which tells what this raises of a damaged set."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(folder))
    info = builder.info
    image_key, label_key = image_and_label(folder, info)
    check_classes(info.features[label_key], str(folder))
    sources = {"train": "train", "test": "test" if "test" in info.splits else "validation"}
    if not set(sources.values()) <= set(info.splits):
        raise UserError(
            f"{folder} has the splits {', '.join(info.splits)}; "
            "config.data.name must be a set with a train and a test (or validation) split."
        )
    splits = {}
    for split, source in sources.items():
        if not info.splits[source].num_examples:
            raise UserError(f"{folder} has no examples in split {source!r}; prepare the set anew.")
        logging.info("decoding the %s split of %s, once", source, folder)
        # TFDS would decode images of any kind as if they were of the declared one.
        examples = builder.as_data_source(split=source, decoders={image_key: tfds.decode.SkipDecoding()})
        encoded, labels = zip(*[(example[image_key], example[label_key]) for example in examples], strict=True)
        images = decode_images(encoded, info.features[image_key], f"{folder} in split {source!r}")
        splits[split] = Split(images, check_labels(labels, info.features[label_key], f"{folder} in split {source!r}"))
    train, test = (splits[split].images.shape[1:] for split in ("train", "test"))
    if train != test:
        raise UserError(
            f"{folder} has training images of {size(train)} and test images of {size(test)} pixels; "
            "config.data.name must be a set of uint8 images of one size."
        )
    return Dataset(info.features[label_key].num_classes, splits)


def decode_images(encoded: Sequence[bytes], feature: "tfds.features.Image", where: str) -> np.ndarray:
    """Return images ``[examples, height, width, channels]`` that ``feature`` declares, from PNG or JPEG files.

    Raises:
      UserError: they are not uint8, of several sizes, or not as declared; the sentence begins with ``where``.
    """
    *sides, channels = feature.shape
    mode = MODES.get(channels)
    if feature.np_dtype != np.uint8 or mode is None:
        raise UserError(
            f"{where} has {feature.np_dtype} images of shape {feature.shape}; "
            "config.data.name must be a set of uint8 images of 1, 3 or 4 channels."
        )
    images = []
    for file in encoded:
        with PIL.Image.open(io.BytesIO(file)) as image:
            images.append(np.asarray(image))
            if image.mode != mode:
                raise UserError(
                    f"{where} has images of mode {image.mode} that its features.json declares to be {mode}; "
                    "prepare the set anew."
                )
    sizes = sorted({image.shape[:2] for image in images})
    if len(sizes) != 1:
        raise UserError(
            f"{where} has images of several sizes ({', '.join(map(size, sizes[:3]))}); "
            "set config.data.image_size, the side of the crops, as 224."
        )
    if any(declared not in (None, side) for declared, side in zip(sides, sizes[0], strict=True)):
        raise UserError(
            f"{where} has images of {size(sizes[0])} pixels, but its features.json declares {size(sides)}; "
            "prepare the set anew."
        )
    return np.stack(images).reshape(len(images), *sizes[0], channels)


def size(shape: Sequence[int]) -> str:
    """Return height and width of ``shape``, as in "32x32"."""
    return "x".join(map(str, shape[:2]))


def check_labels(labels: Sequence[int], feature: "tfds.features.ClassLabel", where: str) -> np.ndarray:
    """Return ``labels`` as int32 ``[examples]``.

    Raises:
      UserError: some are none of the classes of ``feature``; the sentence begins with ``where``.
    """
    least, most = min(labels), max(labels)
    if least < 0 or most >= feature.num_classes:
        raise UserError(
            f"{where} has labels from {least} to {most} but {feature.num_classes} classes; prepare the set anew."
        )
    return np.array(labels, np.int32)


def check_classes(feature: "tfds.features.ClassLabel", where: str) -> None:
    """Raise a UserError unless ``feature`` has two classes or more, and a name for each.

    The sentence begins with ``where``.
    """
    if feature.num_classes is None or feature.num_classes < 2:
        raise UserError(f"{where} has fewer than two classes; config.data.name must be a set of at least two.")
    if len(feature.names) != feature.num_classes:
        raise UserError(
            f"{where} has {feature.num_classes} classes but names of {len(feature.names)} in its labels.txt; "
            "prepare the set anew."
        )


def image_and_label(folder: pathlib.Path, info: "tfds.core.DatasetInfo") -> tuple[str, str]:
    """Return the names of the features that are the image and its label.

    Raises:
      UserError: it is not clear which they are.
    """
    import tensorflow_datasets as tfds

    images = [key for key, feature in info.features.items() if isinstance(feature, tfds.features.Image)]
    labels = [key for key, feature in info.features.items() if isinstance(feature, tfds.features.ClassLabel)]
    pair = info.supervised_keys or (images + labels)
    if len(pair) != 2 or pair[0] not in images or pair[1] not in labels:
        raise UserError(
            f"{folder} has the features {', '.join(sorted(info.features))}; "
            "config.data.name must be a set with one image and one class label for each example."
        )
    return pair[0], pair[1]
