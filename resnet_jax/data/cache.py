"""A cache of decoded data sets on disk, so that the second start does not decode 60,000 images again."""

import hashlib
import pathlib
import tempfile
from collections.abc import Callable

import numpy as np
from absl import logging

from resnet_jax.backend import cache_folder
from resnet_jax.data.dataset import Dataset, Split


def cached(source: pathlib.Path, decode: Callable[[], Dataset]) -> Dataset:
    """Return the data set in folder ``source``, from the cache if the folder is unchanged since it was decoded.

    An unreadable cache file is replaced; if there can be no cache, or others may write to it, a warning is logged.
    """
    try:
        path = cache_folder("datasets") / f"{source.parent.name}-{source.name}-{fingerprint(source)}.v2.npz"
    except OSError as error:
        logging.warning("Decoded images are not cached: %s", error)
        return decode()
    try:
        return read(path)
    except FileNotFoundError:
        pass
    except Exception as error:  # numpy and zipfile raise nearly anything on damaged files.
        logging.warning("%s cannot be read (%s) and is replaced.", path, error)
    dataset = decode()
    try:
        write(path, dataset)
    except OSError as error:
        logging.warning("Decoded images cannot be cached in %s: %s", path, error)
    return dataset


def fingerprint(folder: pathlib.Path) -> str:
    """Return a digest of the names, sizes and modification times of the files in ``folder``."""
    files = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in folder.iterdir())
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16]


def read(path: pathlib.Path) -> Dataset:
    """Return the data set that ``write`` wrote to ``path``."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        # By name: a damaged file may hold others.
        splits = {name: Split(arrays[f"{name}_images"], arrays[f"{name}_labels"]) for name in ("train", "test")}
        return Dataset(tuple(arrays["class_names"].tolist()), splits)


def write(path: pathlib.Path, dataset: Dataset) -> None:
    """Write ``dataset`` to ``path`` atomically."""
    arrays = {"class_names": np.array(dataset.class_names)}
    for name, split in dataset.splits.items():
        arrays |= {f"{name}_images": split.images, f"{name}_labels": split.labels}
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
        try:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        except OSError:
            pathlib.Path(file.name).unlink()
            raise
    pathlib.Path(file.name).replace(path)
