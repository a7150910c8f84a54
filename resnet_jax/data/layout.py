"""Which folders hold splits and classes, which are of the system, and which are laid out in another way."""

import os
import pathlib
import re

from resnet_jax.errors import UserError

# Of the formats in ``images.FORMATS``. The content of a file may have another format than its name says.
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
# The first that exists is the test split. ImageNet's own "test" has no labels, so it comes last.
TEST_FOLDERS = ("val", "validation", "test")
# Other spellings of splits, which are never classes.
_MORE = r"([ ._-]?(set|data|dataset|images?|imgs?|split|files|\d+))*"
TRAIN_LIKE = re.compile(rf"train(ing)?{_MORE}", re.IGNORECASE)
TEST_LIKE = re.compile(
    rf"(val|valid|validate|validation|tests?|testing|eval|evaluation|dev|holdout){_MORE}", re.IGNORECASE
)
# Folders that archives, disks and network drives add, in lower case. Hidden ones are left out anyway.
SYSTEM_FOLDERS = {
    *("__macosx", "$recycle.bin", "system volume information", "recycler", "found.000", "lost+found"),
    *("@eadir", "#recycle", "@recycle", "#snapshot", "@tmp", "__pycache__"),
}


def is_system(name: str) -> bool:
    """Return whether a file or folder called ``name`` is hidden or of the system."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def is_image(name: str) -> bool:
    """Return whether a file called ``name`` is used."""
    return name.lower().endswith(SUFFIXES)


def class_folders(root: pathlib.Path) -> list[str]:
    """Return the sorted names of the folders in ``root``, except hidden ones and those of the system.

    Raises:
      UserError: a link, which may be to a folder, is broken.
    """
    folders = []
    with os.scandir(root) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if is_system(entry.name):
                continue
            path = pathlib.Path(entry)
            if entry.is_symlink() and not is_image(entry.name) and not path.exists():
                raise UserError(
                    f"{path} is a link to {path.readlink()}, which does not exist or cannot be reached; "
                    "mount or repair it, or remove the link."
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
