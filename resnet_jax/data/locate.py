"""Where a TFDS data set is: found on disk, or prepared first."""

import contextlib
import difflib
import os
import pathlib
import re
from collections.abc import Iterator

from rich.filesize import decimal

from resnet_jax.data import prepare
from resnet_jax.data.builder import open_builder
from resnet_jax.errors import UserError
from resnet_jax.paths import local_path
from resnet_jax.safe_files import read_json

# Name, configurations and version; "*" stands for any number in a version.
NAME = re.compile(r"\w[\w.+-]*(/\w[\w.+-]*)*(:(\d+|\*)\.(\d+|\*)\.(\d+|\*))?")


def data_root(data_dir: str | None) -> pathlib.Path:
    """Return the folder of TFDS data sets: ``data_dir``, else ``TFDS_DATA_DIR``, else ~/tensorflow_datasets.

    Raises:
      UserError: it is a URL or a file, or cannot be read.
    """
    given = data_dir or os.environ.get("TFDS_DATA_DIR")
    name = "config.data.data_dir" if data_dir else "TFDS_DATA_DIR"
    root = pathlib.Path(local_path(given, name) if given else "~/tensorflow_datasets")
    try:
        root = root.expanduser()
        if root.exists() and not root.is_dir():
            raise UserError(f"{root} is a file; set config.data.data_dir to the folder that holds the data sets.")
    except (OSError, RuntimeError) as error:  # RuntimeError: "~user" of an unknown user.
        raise UserError(f"{root} cannot be read ({error}); set config.data.data_dir to another folder.") from error
    return root


@contextlib.contextmanager
def located(name: str, data_dir: str | None, manual_dir: pathlib.Path | None = None) -> Iterator[pathlib.Path]:
    """Yield the folder of TFDS data set ``name``, prepared first if needed, and turn storage errors into UserErrors.

    ``manual_dir`` is as in ``prepare.prepare``.

    Raises:
      UserError: the data set is unknown or missing, or its folder cannot be read.
    """
    check_name(name)
    root = data_root(data_dir)
    try:
        folder = find(name, root)
        if folder is None:
            check_holds_sets(root)
            check_known(name, root)
            prepare.prepare(name, root, manual_dir)
            folder = find(name, root)
            if folder is None:
                raise UserError(f"TFDS prepared {name!r}, but not in {root}; set config.data.data_dir to its folder.")
        yield folder
    except OSError as error:
        raise UserError(f"{root} cannot be read ({error}); set config.data.data_dir to another folder.") from error


def check_holds_sets(root: pathlib.Path) -> None:
    """Raise a UserError that names the folder to give instead if ``root`` is a folder of one prepared data set."""
    root = root.absolute()
    # The folder of a set has a folder for each version, or for each configuration and version.
    for pattern in ("dataset_info.json", "*/dataset_info.json", "*/*/dataset_info.json"):
        for file in root.glob(pattern):
            info = None
            with contextlib.suppress(UserError):  # Another set may be damaged.
                info = read_json(file)
            name = info.get("name") if isinstance(info, dict) else None
            own = next((folder for folder in file.parents[:3] if folder.name == name), None)
            if own in (root, *root.parents):
                raise UserError(
                    f"{root} is the folder of the data set {name}; set config.data.data_dir to {own.parent}."
                )


def is_prepared(name: str, data_dir: str | None) -> bool:
    """Return whether TFDS data set ``name`` is on this machine, so that it need not be prepared.

    Raises:
      UserError: it is unknown or incomplete, or its folder cannot be read.
    """
    check_name(name)
    root = data_root(data_dir)
    try:
        if find(name, root) is not None:
            return True
        check_known(name, root)
    except OSError as error:
        raise UserError(f"{root} cannot be read ({error}); set config.data.data_dir to another folder.") from error
    return False


def check_name(name: str) -> None:
    """Raise a UserError unless ``name`` can be the name of a TFDS data set."""
    if not NAME.fullmatch(name):
        raise UserError(
            f"config.data.name={name!r} is not a data set name; write it like cifar10, emnist/digits or cifar10:3.0.2."
        )


def find(name: str, root: pathlib.Path) -> pathlib.Path | None:
    """Return the folder under ``root`` that holds the newest prepared version of TFDS data set ``name``, or None.

    Raises:
      UserError: the data set is incomplete, or in a file format that cannot be read without TensorFlow.
    """
    name, _, version = name.partition(":")
    found = [folder for folder in (root / name).glob(version or "*.*.*") if re.fullmatch(r"\d+\.\d+\.\d+", folder.name)]
    if not found:
        return None
    newest = max(found, key=lambda folder: [int(part) for part in folder.name.split(".")])
    info = read_json((newest / "dataset_info.json").resolve())  # Unlike a record it may be a link.
    if not isinstance(info, dict):
        raise UserError(
            f"{newest} has no valid dataset_info.json; remove the folder and run the same command to prepare the data "
            "set again, or set config.data.data_dir to another folder."
        )
    file_format = info.get("fileFormat", "tfrecord")
    if file_format != "array_record":
        raise UserError(
            f"{newest} holds {file_format} files, which only TensorFlow can read; set config.data.data_dir to another "
            "folder and the data set is prepared there as array_record files."
        )
    return newest


def summary(folder: pathlib.Path) -> str:
    """Return a line on the data set in ``folder``: examples of each split, classes, bytes.

    Raises:
      UserError: the data set is damaged.
    """
    import tensorflow_datasets as tfds

    with reporting_damage(folder):
        info = open_builder(folder).info
        examples = " and ".join(f"{split.num_examples:,} {name}" for name, split in info.splits.items())
        labels = [feature for feature in info.features.values() if isinstance(feature, tfds.features.ClassLabel)]
    classes = f" of {labels[0].num_classes:,} classes" if labels else ""
    return f"{folder}: {examples} examples{classes}, {decimal(sum(file.stat().st_size for file in folder.iterdir()))}"


def check_known(name: str, root: pathlib.Path) -> None:
    """Raise a UserError that suggests similar names unless TFDS has a data set called ``name``."""
    import tensorflow_datasets as tfds

    base = name.partition(":")[0].partition("/")[0]
    known = ["digits", *tfds.list_builders(with_community_datasets=False)]
    if base not in known:
        near = difflib.get_close_matches(base, known)
        hint = f"did you mean {' or '.join(near)}?" if near else "use 'digits' or a name from the TFDS catalogue."
        raise UserError(f"config.data.name={name!r} is unknown to TFDS and not found under {root}; {hint}")


@contextlib.contextmanager
def reporting_damage(folder: pathlib.Path) -> Iterator[None]:
    """Turn whatever reading a damaged data set raises into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # TFDS, array_record and Pillow raise anything on damaged files.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(
            f"{folder} is damaged or incomplete ({reason}); remove it and prepare the data set again."
        ) from error
