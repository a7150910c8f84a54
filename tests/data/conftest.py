"""A tiny set as TFDS would prepare it."""

import io

import numpy as np
import pytest
from PIL import Image

CLASSES = ["cat", "dog", "emu"]


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(stream, "png")
    return stream.getvalue()


def tiny_splits(shape=(8, 8, 3), splits=("train", "test")):
    """Return 40 random images and labels of the first split and 17 of the others."""
    random = np.random.default_rng(0)
    return {
        split: (
            random.integers(0, 256, (count, *shape), np.uint8),
            random.integers(0, len(CLASSES), count).astype(np.int32),
        )
        for split, count in zip(splits, [40] + [17] * len(splits[1:]), strict=True)
    }


def write_set(root, name, splits, version="1.0.0", shape=None, **features):
    """Write ``splits`` under ``root`` as TFDS does, without TensorFlow; ``shape`` is for images of several shapes.

    Without ``features`` these are "image" and "label"; each of ``features`` gets the image or the label.
    """
    import tensorflow_datasets as tfds

    folder = root / name / version
    folder.mkdir(parents=True)
    supervised_keys = None
    if not features:
        shape = shape or next(iter(splits.values()))[0].shape[1:]
        features = {"image": tfds.features.Image(shape=shape), "label": tfds.features.ClassLabel(names=CLASSES)}
        supervised_keys = ("image", "label")
    builder = tfds.core.DatasetIdentity(
        name=name, version=tfds.core.Version(version), data_dir=str(folder), module_name="tests"
    )
    info = tfds.core.DatasetInfo(
        builder=builder,
        description="",
        features=tfds.features.FeaturesDict(features),
        supervised_keys=supervised_keys,
    )
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=16, overwrite=True, file_format="array_record")
    writer.initialize_splits(list(splits))

    def example(image, number):
        image = image if isinstance(image, bytes) else png(image)
        return {
            key: image if isinstance(feature, tfds.features.Image) else int(number) for key, feature in features.items()
        }

    writer.add_examples(
        {
            split: [example(image, number) for image, number in zip(*arrays, strict=True)]
            for split, arrays in splits.items()
        }
    )
    writer.close_all()
    return folder


@pytest.fixture
def tiny_set(tmp_path):
    """Return a folder of TFDS sets that holds "tiny", and what its splits must be read as."""
    splits = tiny_splits()
    write_set(tmp_path / "tfds", "tiny", splits)
    return tmp_path / "tfds", splits
