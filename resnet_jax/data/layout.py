"""Which folders hold splits and classes, which files of these are used, and which layouts are refused."""

import collections
import os
import pathlib
import re
from typing import NamedTuple

import numpy as np

from resnet_jax.errors import UserError

# Endings of the formats in ``images.FORMATS``; the content of a file may have another format.
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
# The first that exists is the test split. ImageNet's own "test" has no labels, so it comes last.
TEST_FOLDERS = ("val", "validation", "test")
# Other spellings of splits, which are never classes.
_MORE = r"([ ._-]?(set|data|images?|imgs?|split|files|\d))*"
TRAIN_LIKE = re.compile(rf"train(ing)?{_MORE}", re.IGNORECASE)
TEST_LIKE = re.compile(
    rf"(val|valid|validate|validation|tests?|testing|eval|evaluation|dev|holdout){_MORE}", re.IGNORECASE
)
# Folders that archives, disks and network drives add, in lower case. Hidden ones are left out anyway.
SYSTEM_FOLDERS = {
    *("__macosx", "$recycle.bin", "system volume information", "recycler", "found.000", "lost+found"),
    *("@eadir", "#recycle", "@recycle", "#snapshot", "@tmp", "__pycache__"),
}


class Listing(NamedTuple):
    """The files of a class folder.

    Attributes:
      images: names of the images, sorted, bytes ``[images]``.
      ignored: number of other files, by suffix.
    """

    images: np.ndarray
    ignored: collections.Counter[str]


def is_system(name: str) -> bool:
    """Return whether a file or folder called ``name`` is hidden or of the system."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def is_image(name: str) -> bool:
    """Return whether a file called ``name`` is used."""
    return name.lower().endswith(SUFFIXES)


def class_folders(root: pathlib.Path) -> list[str]:
    """Return the sorted names of the folders in ``root``, except hidden and system folders.

    Raises:
      UserError: a link, which may be to a folder, is broken.
    """
    folders = []
    with os.scandir(root) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if is_system(entry.name):
                continue
            if entry.is_symlink() and not is_image(entry.name) and not pathlib.Path(entry).exists():
                raise UserError(
                    f"{entry.path} is a link to {pathlib.Path(entry).readlink()}, which does not exist or cannot be "
                    "reached; mount or repair it, or remove the link."
                )
            if entry.is_dir():
                folders.append(entry.name)
    return folders


def split_folders(top: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path] | None:
    """Return the folders of the training and the test split in ``top``, or None if it holds class folders.

    Raises:
      UserError: one of them is missing or has another name, or the test split is not sorted into classes.
    """
    names = class_folders(top)
    train, test = (
        sorted((name for name in names if like.fullmatch(name)), key=lambda name: (name not in right, name))
        for like, right in ((TRAIN_LIKE, ("train",)), (TEST_LIKE, TEST_FOLDERS))
    )
    if not test and (not train or are_classes(top, train, names)):
        return None
    changes = []
    if train and train[0] != "train":
        changes.append(f"{train[0]} to train")
    if test and test[0] not in TEST_FOLDERS:
        changes.append(f"{test[0]} to {'test' if test[0].lower().startswith('test') else 'val'}")
    rename = f"rename {' and '.join(changes)}" if changes else ""
    if not train:
        raise UserError(
            f"{top} has a folder {test[0]} but no folder train; put the class folders of the training split into "
            f"train{' and ' + rename if rename else ''}, or move {test[0]} elsewhere."
        )
    if not test:
        raise UserError(
            f"{top} has a folder {train[0]} but no folder {' or '.join(TEST_FOLDERS)}; "
            f"{rename + ' and ' if rename else ''}add one of them."
        )
    if rename:
        raise UserError(
            f"{top} has the folders {train[0]} and {test[0]}; {rename}, so that they are read as the two splits."
        )
    test_folder = next(top / name for name in TEST_FOLDERS if name in test)
    check_sorted(top / "train", test_folder)
    return top / "train", test_folder


def are_classes(top: pathlib.Path, train: list[str], names: list[str]) -> bool:
    """Return whether the folders ``train`` of ``top``, which has folders ``names``, show the vehicle."""
    flat = not any(class_folders(top / name) for name in train)
    return flat and len(names) > len(train) and {name.lower() for name in train} == {"train"}


def check_sorted(train: pathlib.Path, test: pathlib.Path) -> None:
    """Raise a UserError if ``test`` has its images in one folder that is not a class, as Tiny ImageNet's archive."""
    names, classes = class_folders(test), class_folders(train)
    if len(names) != 1 or names[0] in classes:
        return
    listed = " (val_annotations.txt lists the class of each)" if (test / "val_annotations.txt").is_file() else ""
    nested = any((train / name / names[0]).is_dir() for name in classes)
    raise UserError(
        f"{test} has the images of all classes in one folder, {names[0]}; move each into a folder of its class, "
        f"{test}/CLASS{listed}"
        + (f", and the images in {train}/CLASS/{names[0]} up into {train}/CLASS." if nested else ".")
    )


def list_folder(folder: pathlib.Path) -> Listing:
    """Return the files of class folder ``folder``.

    A broken link with the name of an image is among these, so that reading it raises an error.

    Raises:
      UserError: a subfolder has images.
    """
    images, ignored = [], collections.Counter[str]()
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_system(entry.name):
                continue
            if entry.is_dir():
                ignored += list_subfolder(folder, entry.name)
            elif is_image(entry.name) and (entry.is_file() or entry.is_symlink()):
                images.append(os.fsencode(entry.name))
            else:
                ignored[suffix_of(entry.name)] += 1
    return Listing(np.array(sorted(images), np.bytes_), ignored)


def list_subfolder(folder: pathlib.Path, name: str) -> collections.Counter[str]:
    """Return the number of files, by suffix, in and below subfolder ``name`` of class folder ``folder``.

    Raises:
      UserError: one is an image.
    """
    ignored = collections.Counter[str]()
    for _, folders, files in os.walk(folder / name):
        folders[:] = [each for each in folders if not is_system(each)]
        files = [file for file in files if not is_system(file)]
        if any(is_image(file) for file in files):
            raise UserError(
                f"{folder} has images in its subfolder {name}, but only files directly in a class folder are used; "
                f"move them into {folder} if that is a class, rename {folder} to train or val if it is a split, or set "
                "config.data.data_dir to the folder whose folders are the classes."
            )
        ignored.update(suffix_of(file) for file in files)
    return ignored


def suffix_of(name: str) -> str:
    """Return the suffix of file ``name`` in lower case, or "other" if that is not a usual one."""
    suffix = pathlib.Path(name).suffix.lower()
    return suffix if re.fullmatch(r"\.\w{1,8}", suffix, re.ASCII) else "other"
