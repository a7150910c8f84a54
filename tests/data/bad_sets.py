"""Data sets that cannot be trained on, each with its error message."""

import io
import json

import numpy as np
from PIL import Image

from tests.data.conftest import png, tiny_splits, write_set

SHARD = "tiny-train.array_record-00001"


def damage(change):
    """Return a maker of a good set whose folder ``change`` then damages."""

    def make(root):
        change(write_set(root, "tiny", tiny_splits()))

    return make


def declared(**features):
    """Return a maker of a good set whose features.json then declares what the functions ``features`` make."""
    return damage(lambda folder: declare(folder, **{name: make() for name, make in features.items()}))


def declare(folder, **features):
    import tensorflow_datasets as tfds

    for file in folder.glob("*.labels.txt"):
        file.unlink()
    tfds.features.FeaturesDict(features).save_config(folder)


def image(height=8, width=8, channels=3, **settings):
    import tensorflow_datasets as tfds

    return tfds.features.Image(shape=(height, width, channels), **settings)


def label(classes=3):
    import tensorflow_datasets as tfds

    return tfds.features.ClassLabel(num_classes=classes)


def number():
    import tensorflow_datasets as tfds

    return tfds.features.Scalar(np.int64)


def of_features(**features):
    """Return a maker of a set with ``features``, which are functions that make them."""
    return lambda root: write_set(root, "tiny", tiny_splits(), **{name: make() for name, make in features.items()})


def shifted_labels(by):
    """Return a maker of a set whose labels are all greater by ``by``."""

    def make(root):
        splits = {split: (images, labels + np.int64(by)) for split, (images, labels) in tiny_splits().items()}
        declare(write_set(root, "tiny", splits, image=image(), label=number()), image=image(), label=label())

    return make


def with_images(change, declared_channels=None, **image_settings):
    """Return a maker of a set whose images are what ``change`` makes of ``(split, index, image)``."""

    def make(root):
        splits = {
            split: ([change(split, index, image) for index, image in enumerate(images)], labels)
            for split, (images, labels) in tiny_splits().items()
        }
        folder = write_set(root, "tiny", splits, image=image(None, None, **image_settings), label=label())
        declare(folder, image=image(None, None, declared_channels or image_settings.get("channels", 3)), label=label())

    return make


def bit(array):
    """Return a PNG file of one bit a pixel."""
    stream = io.BytesIO()
    Image.fromarray(array[..., 0] > 127).save(stream, "png")
    return stream.getvalue()


def deep(split, index, array):
    return array[..., :1].astype(np.uint16) * 200


def shard(change):
    """Return a maker of a set with ``change`` applied to the bytes of one file of records."""

    def damaged(folder):
        (folder / SHARD).write_bytes(change((folder / SHARD).read_bytes()))

    return damage(damaged)


def flip(position):
    """Return the change of one bit at ``position``, counted from the first byte of the first record's chunk."""

    def change(content):
        content = bytearray(content)
        content[64 + position] ^= 4  # The first 64 bytes say that it is a file of records.
        return bytes(content)

    return shard(change)


def info(change):
    """Return a maker of a set whose dataset_info.json ``change`` alters."""

    def damaged(folder):
        content = json.loads((folder / "dataset_info.json").read_text())
        change(content)
        (folder / "dataset_info.json").write_text(json.dumps(content))

    return damage(damaged)


def lengths(split, *lengths):
    """Return a maker of a set that claims ``lengths`` for the files of its ``split``-th split."""
    return info(lambda content: content["splits"][split].update(shardLengths=list(map(str, lengths))))


def text(file, content):
    """Return a maker of a set whose ``file`` has other content, or is missing."""
    return damage(lambda folder: (folder / file).unlink() if content is None else (folder / file).write_bytes(content))


def folder_for_shard(folder):
    (folder / SHARD).unlink()
    (folder / SHARD).mkdir()


DAMAGED = r"is damaged or incomplete \(.*\); remove it and prepare the data set again\."
ONE_SIZE = r"config\.data\.name must be a data set of uint8 images of one size\."
ONE_LABEL = r"config\.data\.name must be a data set with one image and one class label per example\."
# What is wrong, how the set is made, and the message after the name of its folder.
BAD_SETS = [
    ("labels above", declared(image=image, label=lambda: label(2)), r"labels from 0 to 2 but 2 classes"),
    ("labels below", shifted_labels(-5), r"labels from -5 to -3 but 3 classes"),
    ("labels beyond int32", shifted_labels(2**40), r"labels from 1099511627776 to 1099511627778 but 3 classes"),
    ("one class", declared(image=image, label=lambda: label(1)), r"fewer than two classes; config\.data"),
    ("unknown classes", declared(image=image, label=lambda: label(None)), r"fewer than two classes"),
    ("no label", of_features(image=image), rf"has the features image; {ONE_LABEL}"),
    ("label is a number", of_features(image=image, label=number), rf"has the features image, label; {ONE_LABEL}"),
    ("two labels", of_features(image=image, label=label, other=label), rf"image, label, other; {ONE_LABEL}"),
    ("two images", of_features(image=image, label=label, other=image), rf"image, label, other; {ONE_LABEL}"),
    ("no image", of_features(label=label), rf"has the features label; {ONE_LABEL}"),
    (
        "no label in the records",
        lambda root: declare(write_set(root, "tiny", tiny_splits(), image=image()), image=image(), label=label()),
        DAMAGED,
    ),
    ("no training examples", lengths(0), r"has no examples in split 'train'; prepare the data set again\."),
    ("no test examples", lengths(1, 0, 0), r"has no examples in split 'test'; prepare the data set again\."),
    (
        "no test split",
        lambda root: write_set(root, "tiny", tiny_splits(splits=("train", "extra"))),
        r"has the splits train, extra; config\.data\.name must be a data set with a train and a test",
    ),
    (
        "no splits",
        info(lambda content: content.pop("splits")),
        r"config\.data\.name must be a data set with a train and",
    ),
    (
        "images of several sizes",
        with_images(lambda split, index, array: array[index % 2 :]),
        r"in split 'train' has images of several sizes \(7x8, 8x8\); set config\.data\.image_size",
    ),
    (
        "test images of another size",
        with_images(lambda split, index, array: array[:, :5] if split == "test" else array),
        rf"has training images of 8x8 and test images of 8x5 pixels; {ONE_SIZE}",
    ),
    (
        "images of another size than declared",
        declared(image=lambda: image(16), label=label),
        r"images of 8x8 pixels, but its features\.json declares 16x8; prepare the data set again\.",
    ),
    (
        "grey images where RGB is declared",
        with_images(lambda split, index, array: array[..., :1], channels=1, declared_channels=3),
        r"has images of mode L, but its features\.json declares RGB; prepare the data set again\.",
    ),
    (
        "RGB images where grey is declared",
        with_images(lambda split, index, array: array, declared_channels=1),
        r"has images of mode RGB, but its features\.json declares L; prepare the data set again\.",
    ),
    (
        "one grey image among RGB",
        with_images(lambda split, index, array: png(array[..., :1] if index == 9 else array)),
        r"has images of mode L, but its features\.json declares RGB; prepare the data set again\.",
    ),
    (
        "images of one bit",
        with_images(lambda split, index, array: bit(array), channels=1),
        r"has images of mode 1, but",
    ),
    ("images of 16 bits", with_images(deep, channels=1), r"has images of mode I(;16)?, but its features.json declares"),
    (
        "images declared as uint16",
        declared(image=lambda: image(dtype=np.uint16, encoding_format="png"), label=label),
        r"has uint16 images of shape \(8, 8, 3\); config\.data\.name must be a data set of uint8 images of 1, 3 or 4",
    ),
    ("images that are none", with_images(lambda split, index, array: b"\x89PNG, but it is not"), DAMAGED),
    ("images that are empty", with_images(lambda split, index, array: b""), DAMAGED),
    ("an image cut off", with_images(lambda split, index, array: png(array)[: 60 if index == 5 else None]), DAMAGED),
    (
        "an image with a wrong byte",
        with_images(lambda split, index, array: png(array)[:60] + b"\xff\xff" + png(array)[62:]),
        DAMAGED,
    ),
    ("records cut in half", shard(lambda content: content[: len(content) // 2]), DAMAGED),
    ("records cut at the end", shard(lambda content: content[:-1]), DAMAGED),
    ("records cut to whole blocks", shard(lambda content: content[: 2**16]), DAMAGED),
    ("empty file of records", shard(lambda content: b""), DAMAGED),
    ("zeros for records", shard(lambda content: bytes(len(content))), DAMAGED),
    ("noise for records", shard(lambda content: np.random.default_rng(0).bytes(len(content))), DAMAGED),
    ("a wrong bit in a record's header", flip(10), DAMAGED),
    ("a wrong bit in a record", flip(100), DAMAGED),
    ("a wrong bit in a later record", flip(1000), DAMAGED),
    ("a missing file of records", text(SHARD, None), DAMAGED),
    ("a folder for a file of records", damage(folder_for_shard), DAMAGED),
    ("fewer records than promised", lengths(0, 16, 16, 99), DAMAGED),
    ("features.json missing", text("features.json", None), DAMAGED),
    ("features.json cut off", text("features.json", b'{"featuresDict": {"fea'), DAMAGED),
    ("features.json of noise", text("features.json", b"\xff\x00\xfe"), DAMAGED),
    ("features.json of something else", text("features.json", b"[1, 2]"), DAMAGED),
    (
        "dataset_info.json missing",
        text("dataset_info.json", None),
        r"has no valid dataset_info\.json; remove",
    ),
    (
        "dataset_info.json of something else",
        text("dataset_info.json", b"[1, 2]"),
        r"has no valid dataset_info\.json; remove the folder",
    ),
    ("dataset_info.json cut off", text("dataset_info.json", b'{"na'), r"dataset_info\.json is not valid JSON \("),
    (
        "dataset_info.json of noise",
        text("dataset_info.json", b"\xff\x00\xfe"),
        r"dataset_info\.json is not valid JSON \(",
    ),
    ("dataset_info.json of odd types", info(lambda content: content.update(splits=3)), DAMAGED),
    (
        "files for TensorFlow",
        info(lambda content: content.update(fileFormat="tfrecord")),
        r"holds tfrecord files, which only TensorFlow can read; set config\.data\.data_dir to another",
    ),
]
