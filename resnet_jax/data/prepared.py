"""Sets that TFDS has prepared, read through ``tfds.data_source`` without TensorFlow."""

import difflib
import json
import os
import pathlib
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from resnet_jax.data import cache, prepare
from resnet_jax.data.dataset import Dataset, Split
from resnet_jax.errors import UserError

if TYPE_CHECKING:  # Imported late in earnest: it takes a second that a cached set does not need.
    import tensorflow_datasets as tfds


def load(name: str, data_dir: str | None) -> Dataset:
    """Return the train and test split of TFDS set ``name``, prepared first if it is not and there is a network.

    Args:
      name: a TFDS name, with configuration and version where wanted: "cifar10", "emnist/digits", "cifar10:3.0.2".
      data_dir: where TFDS prepares; None for ``TFDS_DATA_DIR`` or else TFDS's own default, ~/tensorflow_datasets.

    Raises:
      UserError: the set is unknown, missing, or no set of images of one size with one label each.
    """
    root = pathlib.Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    folder = find(name, root)
    if folder is None:
        check_known(name, root)
        prepare.prepare(name, root)
        folder = find(name, root)
        if folder is None:
            raise UserError(f"TFDS prepared {name!r}, but {root} does not hold it; give its folder as data_dir.")
    return cache.cached(folder, lambda: read(folder))


def find(name: str, root: pathlib.Path) -> pathlib.Path | None:
    """Return the folder under ``root`` that holds the newest prepared version of TFDS set ``name``, or None.

    Raises:
      UserError: the set is there in a file format that cannot be read without TensorFlow.
    """
    name, _, version = name.partition(":")
    found = [info.parent for info in (root / name).glob(f"{version or '*.*.*'}/dataset_info.json")]
    if not found:
        return None
    newest = max(found, key=lambda folder: [int(part) for part in folder.name.split(".") if part.isdigit()])
    file_format = json.loads((newest / "dataset_info.json").read_text()).get("fileFormat", "tfrecord")
    if file_format != "array_record":
        raise UserError(
            f"{newest} holds {file_format} files, which only TensorFlow reads; "
            "give another folder as config.data.data_dir, and the set is prepared there as array_record files."
        )
    return newest


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
      UserError: the set is no set of images of one size with one label each.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(folder))
    image_key, label_key = image_and_label(folder, builder.info)
    num_classes = builder.info.features[label_key].num_classes
    sources = {"train": "train", "test": "test" if "test" in builder.info.splits else "validation"}
    if not set(sources.values()) <= set(builder.info.splits):
        raise UserError(
            f"{folder} has the splits {', '.join(builder.info.splits)}; "
            "config.data.name must be a set with a train and a test (or validation) split."
        )
    splits = {}
    for split, source in sources.items():
        logging.info("decoding the %s split of %s, once", source, folder)
        examples = list(builder.as_data_source(split=source))
        images = [example[image_key] for example in examples]
        if len({(image.shape, image.dtype) for image in images}) != 1 or images[0].dtype != np.uint8:
            raise UserError(
                f"{folder} has no images, images of several sizes or not of 8 bits in split {source!r}; "
                "config.data.name must be a set of uint8 images of one size."
            )
        labels = np.array([example[label_key] for example in examples], np.int32)
        if labels.min() < 0 or labels.max() >= num_classes:
            raise UserError(
                f"{folder} has labels from {labels.min()} to {labels.max()} in split {source!r} "
                f"but {num_classes} classes; prepare the set anew."
            )
        splits[split] = Split(np.stack(images), labels)
    return Dataset(num_classes, splits)


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
            f"{folder} has the features {', '.join(info.features)}; "
            "config.data.name must be a set with one image and one class label for each example."
        )
    return pair[0], pair[1]
