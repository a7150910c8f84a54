"""Decoded data sets, kept on disk so that the second start does not decode 60,000 images again."""

import hashlib
import pathlib
import tempfile
from collections.abc import Callable

import numpy as np
from absl import logging

from resnet_jax.backend import cache_folder
from resnet_jax.data.dataset import Dataset, Split


def cached(source: pathlib.Path, decode: Callable[[], Dataset]) -> Dataset:
    """Return the data set decoded from folder ``source``, from the cache if the folder has not changed since.

    A cache that cannot be read is written anew, one that cannot be written is done without.
    """
    path = cache_folder() / "datasets" / f"{source.parent.name}-{source.name}-{fingerprint(source)}.npz"
    try:
        return read(path)
    except FileNotFoundError:
        pass
    except Exception as error:  # Of a damaged file numpy and zipfile raise nearly anything.
        logging.warning("%s cannot be read (%s) and is made anew.", path, error)
    dataset = decode()
    try:
        write(path, dataset)
    except OSError as error:
        logging.warning("The decoded images cannot be cached in %s: %s", path, error)
    return dataset


def fingerprint(folder: pathlib.Path) -> str:
    """Return a digest of the names, sizes and modification times of the files in ``folder``."""
    files = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in folder.iterdir())
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16]


def read(path: pathlib.Path) -> Dataset:
    """Return the data set that ``write`` wrote to ``path``."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        # By their names: those in a damaged file may be others.
        splits = {name: Split(arrays[f"{name}_images"], arrays[f"{name}_labels"]) for name in ("train", "test")}
        return Dataset(int(arrays["num_classes"]), splits)


def write(path: pathlib.Path, dataset: Dataset) -> None:
    """Write ``dataset`` to ``path`` whole or not at all."""
    arrays = {"num_classes": np.array(dataset.num_classes)}
    for name, split in dataset.splits.items():
        arrays |= {f"{name}_images": split.images, f"{name}_labels": split.labels}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
        try:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        except OSError:
            pathlib.Path(file.name).unlink()
            raise
    pathlib.Path(file.name).replace(path)
