"""The identity of a data set: its classes, the number of its examples, and digests of their content.

The digest of a set in memory covers all pixels and labels. Those of a stream cover its files: all names and, as far as
reading them is quick, sizes and contents.
"""

import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from resnet_jax.data.dataset import Dataset, digest
from resnet_jax.data.sources import ImageSource, Stream, Subset, image_shape
from resnet_jax.errors import UserError

# Files of up to so many bytes in all are read whole.
WHOLE_BYTES = 200_000_000
# Where there are more bytes: of so many files of a split, evenly spread, size and time are asked, and of so many the
# first bytes are read.
ASKED_FILES = 100_000
READ_FILES, READ_BYTES = 1_000, 64_000


def identify(dataset: Dataset | Stream) -> dict[str, Any]:
    """Return the identity of ``dataset``, for JSON.

    Returns:
      ``class_names``: of each label.
      ``image_shape``: of the images that a net sees, height, width and channels.
      ``examples``: by split, the number of examples of each class; in a prepared stream, of all.
      ``covers``: a text on the parts that the digests cover.
      ``contents``: SHA-256 of the content. A stream has further digests: ``names`` of its files with their labels,
        ``sizes``, and ``times`` of modification, None where the files are read whole.

    Raises:
      UserError: a file cannot be read.
    """
    if isinstance(dataset, Stream):
        bases = {
            name: source.source if isinstance(source, Subset) else source for name, source in dataset.splits.items()
        }
        examples = {name: source.examples_by_class() for name, source in dataset.splits.items()}
        try:
            content = of_files([bases["train"], bases["test"]])
        except OSError as error:
            raise UserError(f"{error.filename} cannot be read ({error.strerror}); repair or remove it.") from error
    else:
        classes = len(dataset.class_names)
        examples = {
            name: np.bincount(split.labels, minlength=classes).tolist() for name, split in dataset.splits.items()
        }
        content = {"covers": "all pixels and labels", "contents": digest(dataset)}
    shape = [int(side) for side in image_shape(dataset)]
    return {"class_names": [*dataset.class_names], "image_shape": shape, "examples": examples} | content


def of_files(sources: Sequence[ImageSource]) -> dict[str, Any]:
    """Return digests of the files of ``sources``; see ``identify``."""
    asked = [file for source in sources for file in source.files(ASKED_FILES)]
    states = [pathlib.Path(file).stat() for file in asked]
    count, size = sum(source.file_count for source in sources), sum(state.st_size for state in states)
    whole = len(asked) == count and size <= WHOLE_BYTES
    read = asked if whole else [file for source in sources for file in source.files(READ_FILES)]
    contents = hashlib.sha256()
    for name in read:
        with pathlib.Path(name).open("rb") as file:
            contents.update(hashlib.sha256(file.read(-1 if whole else READ_BYTES)).digest())
    some = f"names of {count:,} files, sizes of {len(asked):,} and the first {READ_BYTES:,} bytes of {len(read):,}"
    return {
        "covers": f"names and content of all {count:,} files" if whole else some,
        "names": sha256([source.names_digest() for source in sources]),
        "sizes": sha256([state.st_size for state in states]),
        "contents": contents.hexdigest(),
        "times": None if whole else sha256([state.st_mtime_ns for state in states]),
    }


def sha256(content: list[Any]) -> str:
    """Return the SHA-256 of ``content``, a list of numbers or text."""
    return hashlib.sha256(repr(content).encode()).hexdigest()
