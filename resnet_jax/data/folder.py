"""Folders of image files, one folder per class, used as they are: nothing is prepared or decoded here."""

import dataclasses
import hashlib
import os
import pathlib

import numpy as np

from resnet_jax.errors import UserError

# Of the formats in ``images.FORMATS``. The content of a file may have another format than its name says.
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
# The first that exists is the test split. ImageNet's own "test" has no labels, so it comes last.
TEST_FOLDERS = ("val", "validation", "test")
LAYOUT = "a folder with one folder of images per class, or with two such folders, train/ and val/"


@dataclasses.dataclass(frozen=True, eq=False)
class FolderSource:
    """The image files of one split, sorted by class and name, so in the same order on every machine.

    An ``ImageSource``. Names are kept in one array, not as a million strings, because each worker process gets a copy.

    Attributes:
      root: the folder that holds the class folders.
      class_names: all classes, sorted; the same in both splits.
      names: names of the files, bytes ``[examples]``.
      labels: int32 ``[examples]``, indices into ``class_names``.
    """

    root: str
    class_names: tuple[str, ...]
    names: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[bytes, int, str]:
        """Read file ``index``.

        Raises:
          IndexError: there is no such file.
          UserError: it cannot be read.
        """
        file = self.file(index)
        try:
            return pathlib.Path(file).read_bytes(), int(self.labels[index]), file
        except OSError as error:
            raise UserError(
                f"{file} cannot be read ({error.strerror}); repair or remove it and start again."
            ) from error

    def file(self, index: int) -> str:
        """Return the path of file ``index``."""
        return str(pathlib.Path(self.root, self.class_names[self.labels[index]], os.fsdecode(self.names[index])))

    def examples_by_class(self) -> list[int]:
        """Return the number of examples of each class."""
        return np.bincount(self.labels, minlength=len(self.class_names)).tolist()

    @property
    def file_count(self) -> int:
        """The number of files."""
        return len(self)

    def files(self, most: int) -> list[str]:
        """Return the paths of ``most`` files, evenly spread, or of all if there are fewer."""
        return [self.file(int(index)) for index in np.linspace(0, len(self) - 1, min(most, len(self)))]

    def names_digest(self) -> str:
        """Return a hash of the names and labels of the files."""
        content = (repr(self.class_names).encode(), self.names.tobytes(), self.labels.tobytes())
        return hashlib.sha256(b"".join(content)).hexdigest()


def load(root: str, test_fraction: float) -> dict[str, FolderSource]:
    """Return the splits "train" and "test" of the image folders under ``root``.

    If ``root`` has a folder ``train``, that holds the class folders of the training split, and the first of ``val``,
    ``validation`` and ``test`` that exists beside it those of the test split. Otherwise the class folders are in
    ``root`` itself, and ``split`` takes ``test_fraction`` of their files; one of them may be called ``train``.

    Files directly in a class folder are used if they have one of ``SUFFIXES``, upper or lower case; hidden files are
    not.

    Raises:
      UserError: folders are missing, there are fewer than two classes, or a class or the test split has no images.
    """
    try:
        top = pathlib.Path(root).expanduser()
        if not top.is_dir():
            state = "is a file" if top.exists() else "does not exist"
            raise UserError(f"{top} {state}; set config.data.data_dir to {LAYOUT}.")
        train, tests = top / "train", [top / name for name in TEST_FOLDERS if (top / name).is_dir()]
        if not (train.is_dir() and (tests or class_folders(train))):
            return split(scan(top), test_fraction)
        if not tests:
            raise UserError(f"{top} has a folder train but no folder {' or '.join(TEST_FOLDERS)}; add one of them.")
        splits = {"train": scan(train), "test": scan(tests[0])}
        check_same_classes(*splits.values())
        return splits
    except (OSError, RuntimeError) as error:  # RuntimeError: "~user" of an unknown user.
        raise UserError(f"{root} cannot be read ({error}); set config.data.data_dir to {LAYOUT}.") from error


def scan(root: pathlib.Path) -> FolderSource:
    """Return all images of the class folders in ``root``.

    Raises:
      UserError: there are fewer than two, one has no images, or the names of two differ only in case.
    """
    class_names = class_folders(root)
    if not class_names:
        raise UserError(f"{root} has no class folders; it must hold one folder of images per class.")
    if len(class_names) < 2:
        raise UserError(
            f"{root} has only one class folder, {class_names[0]}; add another, or set config.data.data_dir to the "
            "folder that holds the class folders."
        )
    spellings: dict[str, str] = {}
    for name in class_names:
        other = spellings.setdefault(name.casefold(), name)
        if other != name:
            raise UserError(f"{root} has classes {other} and {name}, which differ only in case; merge or rename them.")
    files = [image_files(root / name) for name in class_names]
    for name, found in zip(class_names, files, strict=True):
        if not len(found):
            raise UserError(
                f"{root / name} has no images ({', '.join(SUFFIXES)}); add some or remove the class folder."
            )
    labels = np.repeat(np.arange(len(files), dtype=np.int32), [len(found) for found in files])
    return FolderSource(str(root), tuple(class_names), np.concatenate(files), labels)


def class_folders(root: pathlib.Path) -> list[str]:
    """Return the sorted names of the folders in ``root``, except hidden ones and those that macOS adds to archives."""
    with os.scandir(root) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.is_dir() and not entry.name.startswith(".") and entry.name != "__MACOSX"
        )


def image_files(folder: pathlib.Path) -> np.ndarray:
    """Return the sorted names of the images in ``folder`` itself, bytes ``[files]``.

    A broken link is among them, so that reading it raises an error.
    """
    with os.scandir(folder) as entries:
        names = [
            os.fsencode(entry.name)
            for entry in entries
            if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".") and not entry.is_dir()
        ]
    return np.array(sorted(names), np.bytes_)


def split(source: FolderSource, test_fraction: float) -> dict[str, FolderSource]:
    """Return "train" and "test": ``test_fraction`` of all files of ``source``, rounded, but at least one, are "test".

    Files are chosen in the order of a hash of ``CLASS/FILE``, so every machine chooses the same ones, and the choice
    hardly changes when files are added. The fraction is of all files, not of each class. The last file of a class in
    that order stays in "train" as long as other files are left, so that every class is learned unless nearly all have
    a single image. Both splits keep all ``class_names``.

    Raises:
      UserError: a split would be left without images.
    """
    examples = len(source)
    count = max(1, round(test_fraction * examples)) if 0 < test_fraction < 1 else 0
    if not 0 < count < examples:
        raise UserError(
            f"{source.root} has {examples} images, and config.data.test_fraction={test_fraction} leaves a split "
            "empty; choose another value between 0 and 1."
        )
    by_hash = np.argsort([path_hash(source, index) for index in range(examples)])
    _, last = np.unique(source.labels[by_hash][::-1], return_index=True)
    kept = np.zeros(examples, bool)
    kept[by_hash[::-1][last]] = True
    is_test = np.zeros(examples, bool)
    is_test[by_hash[np.argsort(kept[by_hash], stable=True)][:count]] = True
    return {
        name: dataclasses.replace(source, names=source.names[chosen], labels=source.labels[chosen])
        for name, chosen in (("train", ~is_test), ("test", is_test))
    }


def path_hash(source: FolderSource, index: int) -> bytes:
    """Return the SHA-256 of ``CLASS/FILE`` of example ``index``."""
    name = os.fsencode(source.class_names[source.labels[index]])
    return hashlib.sha256(name + b"/" + bytes(source.names[index])).digest()


def check_same_classes(train: FolderSource, test: FolderSource) -> None:
    """Raise a UserError that names a class that one of the splits lacks."""
    for has, lacks in ((train, test), (test, train)):
        missing = sorted(set(has.class_names) - set(lacks.class_names))
        if missing:
            raise UserError(
                f"{lacks.root} lacks the class folder {missing[0]} of {has.root}; both need the same classes, "
                "so add it there or remove it here."
            )
