"""Folders of image files, one for each class, as they lie: nothing is prepared, and nothing is decoded here."""

import dataclasses
import hashlib
import os
import pathlib

import numpy as np

from resnet_jax.errors import UserError

# Of the formats of ``images.FORMATS``. The content of a file may be of another one than its name says.
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
# The first that is there is the test split. ImageNet's own "test" has no labels, so it comes last.
TEST_FOLDERS = ("val", "validation", "test")
WANTED = "a folder with a folder of images for each class, or with train/ and val/ that are such folders"


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """The image files of one split, sorted by class and name, hence in the same order on every machine.

    ``source[i]`` is ``(encoded, label, where)``: the content of the file, its class, its path. Names are kept in one
    array and not as a million strings, because worker processes get a copy.

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
          IndexError: there are not so many.
          UserError: it cannot be read.
        """
        file = self.file(index)
        try:
            return pathlib.Path(file).read_bytes(), int(self.labels[index]), file
        except OSError as error:
            raise UserError(f"{file} cannot be read ({error.strerror}); mend or remove it and start again.") from error

    def file(self, index: int) -> str:
        """Return the path of file ``index``."""
        return str(pathlib.Path(self.root, self.class_names[self.labels[index]], os.fsdecode(self.names[index])))

    def digest(self) -> str:
        """Return what tells these files from others: their names and labels, not their content."""
        content = (repr(self.class_names).encode(), self.names.tobytes(), self.labels.tobytes())
        return hashlib.sha256(b"".join(content)).hexdigest()


def load(root: str, test_fraction: float) -> dict[str, Source]:
    """Return the splits "train" and "test" of the image folders under ``root``.

    Where ``root`` has a folder ``train``, that holds the class folders of the training split, and ``val``,
    ``validation`` or ``test`` beside it, the first there is, those of the test split. Else the class folders lie in
    ``root`` itself, and ``split`` takes ``test_fraction`` of their files; one of them may be called ``train``.

    Files count by their suffix, in any case, if they lie in a class folder directly; hidden ones do not.

    Raises:
      UserError: there are no such folders, or fewer than two classes, or one that lacks images, or no test images.
    """
    try:
        top = pathlib.Path(root).expanduser()
        if not top.is_dir():
            state = "is a file" if top.exists() else "does not exist"
            raise UserError(f"{top} {state}; give as config.data.data_dir {WANTED}.")
        train, tests = top / "train", [top / name for name in TEST_FOLDERS if (top / name).is_dir()]
        if not (train.is_dir() and (tests or class_folders(train))):
            return split(scan(top), test_fraction)
        if not tests:
            raise UserError(f"{top} has a folder train but none called {' or '.join(TEST_FOLDERS)}; add one of them.")
        splits = {"train": scan(train), "test": scan(tests[0])}
        check_same_classes(*splits.values())
        return splits
    except (OSError, RuntimeError) as error:  # A RuntimeError is the home folder of nobody.
        raise UserError(f"{root} cannot be read ({error}); give as config.data.data_dir {WANTED}.") from error


def scan(root: pathlib.Path) -> Source:
    """Return all images of the class folders in ``root``.

    Raises:
      UserError: these are fewer than two, or one has no images, or two differ in case alone.
    """
    class_names = class_folders(root)
    if not class_names:
        raise UserError(f"{root} has no class folders; it must be a folder with a folder of images for each class.")
    if len(class_names) < 2:
        raise UserError(
            f"{root} has one class folder, {class_names[0]}, but must have at least two; "
            "add one, or give the folder that holds them."
        )
    spellings: dict[str, str] = {}
    for name in class_names:
        other = spellings.setdefault(name.casefold(), name)
        if other != name:
            raise UserError(f"{root} has classes {other} and {name}, which differ in case alone; join or rename them.")
    files = [image_files(root / name) for name in class_names]
    for name, found in zip(class_names, files, strict=True):
        if not len(found):
            raise UserError(
                f"{root / name} has no images ({', '.join(SUFFIXES)}); put some there or remove the class folder."
            )
    labels = np.repeat(np.arange(len(files), dtype=np.int32), [len(found) for found in files])
    return Source(str(root), tuple(class_names), np.concatenate(files), labels)


def class_folders(root: pathlib.Path) -> list[str]:
    """Return the sorted names of the folders in ``root``, but for hidden ones and what macOS leaves in archives."""
    with os.scandir(root) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.is_dir() and not entry.name.startswith(".") and entry.name != "__MACOSX"
        )


def image_files(folder: pathlib.Path) -> np.ndarray:
    """Return the sorted names of the images in ``folder`` itself, bytes ``[files]``.

    A link that leads nowhere is among them, so that reading it tells of it.
    """
    with os.scandir(folder) as entries:
        names = [
            os.fsencode(entry.name)
            for entry in entries
            if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".") and not entry.is_dir()
        ]
    return np.array(sorted(names), np.bytes_)


def split(source: Source, test_fraction: float) -> dict[str, Source]:
    """Return "train" and "test", the latter ``test_fraction`` of all files of ``source``, rounded, but at least one.

    The files are taken in the order of a hash of ``CLASS/FILE``, so on every machine the same ones, and they hardly
    change where files are added. The fraction is one of all files, not of each class. The last file of a class in that
    order stays in "train" as long as others are left; so every class can be learned, unless nearly all have but one
    image. Both splits keep all ``class_names``.

    Raises:
      UserError: a split would be left without images.
    """
    examples = len(source)
    count = max(1, round(test_fraction * examples)) if 0 < test_fraction < 1 else 0
    if not 0 < count < examples:
        raise UserError(
            f"{source.root} has {examples} images, and a test fraction of {test_fraction} leaves none for one of the "
            "splits; give another between 0 and 1."
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


def path_hash(source: Source, index: int) -> bytes:
    """Return the SHA-256 of ``CLASS/FILE`` of example ``index``."""
    name = os.fsencode(source.class_names[source.labels[index]])
    return hashlib.sha256(name + b"/" + bytes(source.names[index])).digest()


def check_same_classes(train: Source, test: Source) -> None:
    """Raise a UserError that names a class which one of the splits lacks."""
    for has, lacks in ((train, test), (test, train)):
        missing = sorted(set(has.class_names) - set(lacks.class_names))
        if missing:
            raise UserError(
                f"{lacks.root} lacks the class folder {missing[0]} that {has.root} has; "
                "both must have the same classes, so add it there or remove it here."
            )
