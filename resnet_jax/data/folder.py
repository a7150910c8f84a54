"""Folders of image files, one folder per class, used as they are: nothing is prepared or decoded here."""

import collections
import dataclasses
import hashlib
import os
import pathlib
import unicodedata
from collections.abc import Iterable, Mapping

import numpy as np
from absl import logging

from resnet_jax.data.layout import SUFFIXES, class_folders, is_system, list_folder, split_folders, suffix_of
from resnet_jax.errors import UserError

LAYOUT = "a folder with one folder of images per class, or with two such folders, train/ and val/"


@dataclasses.dataclass(frozen=True, eq=False)
class FolderSource:
    """The image files of one split, sorted by class and name, so in the same order on every machine.

    An ``ImageSource``. Names are kept in one array, not as a million strings, because each worker process gets a copy.

    Attributes:
      root: the folder that holds the class folders.
      class_names: all classes, sorted, in Unicode's normal form NFC; the same in both splits.
      names: names of the files, bytes ``[examples]``.
      labels: int32 ``[examples]``, indices into ``class_names``.
      folders: name of the folder of each class, which may have another normal form.
      ignored: number of files under ``root`` that are not used, by suffix.
    """

    root: str
    class_names: tuple[str, ...]
    names: np.ndarray
    labels: np.ndarray
    folders: tuple[str, ...]
    ignored: Mapping[str, int]

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
        return str(pathlib.Path(self.root, self.folders[self.labels[index]], os.fsdecode(self.names[index])))

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
    """Return the splits "train" and "test" of the image folders under ``root``, and log what is left out.

    If ``root`` has a folder ``train``, that holds the class folders of the training split, and the first of ``val``,
    ``validation`` and ``test`` that exists next to it the test split's. Otherwise the class folders are in
    ``root`` itself, and ``split`` takes ``test_fraction`` of their files; one of them may be called ``train``.

    Files directly in a class folder are used if they have one of ``SUFFIXES``, upper or lower case; hidden files are
    not.

    Raises:
      UserError: folders are missing or laid out in another way, there are fewer than two classes, or a class has no
        images for training, or the test split none.
    """
    try:
        top = pathlib.Path(root).expanduser()
        if not top.is_dir():
            state = "is a file" if top.exists() else "does not exist"
            raise UserError(f"{top} {state}; set config.data.data_dir to {LAYOUT}.")
        found = split_folders(top)
        if found is None:
            source = scan(top)
            check_distinct([source])
            log_left_out(top, source.ignored, [])
            return split(source, test_fraction)
        splits = {name: scan(folder) for name, folder in zip(("train", "test"), found, strict=True)}
        check_same_classes(*splits.values())
        check_distinct(splits.values())
        ignored = collections.Counter(splits["train"].ignored) + collections.Counter(splits["test"].ignored)
        log_left_out(top, ignored, [name for name in class_folders(top) if top / name not in found])
        return splits
    except (OSError, RuntimeError) as error:  # RuntimeError: "~user" of an unknown user.
        raise UserError(f"{root} cannot be read ({error}); set config.data.data_dir to {LAYOUT}.") from error


def log_left_out(top: pathlib.Path, ignored: Mapping[str, int], folders: list[str]) -> None:
    """Log the files under ``top`` that are not used, by suffix, and the ``folders`` that are not a split."""
    if ignored:
        logging.info("%s: files that are not used: %s", top, counted(ignored))
    if folders:
        logging.info("%s: folders that are not used: %s", top, ", ".join(folders))


def counted(ignored: Mapping[str, int]) -> str:
    """Return the number of files by suffix as text."""
    return ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(ignored.items()))


def scan(root: pathlib.Path) -> FolderSource:
    """Return all images of the class folders in ``root``.

    Raises:
      UserError: there are fewer than two, one has no images, or the names of two differ only in case or normal form.
    """
    folders = sorted(class_folders(root), key=class_name)
    if not folders:
        raise UserError(f"{root} has no class folders; it must hold one folder of images per class.")
    if len(folders) < 2:
        raise UserError(
            f"{root} has only one class folder, {folders[0]}; add another, or set config.data.data_dir to the "
            "folder that holds the class folders."
        )
    check_spellings(root, folders)
    listings = [list_folder(root / name) for name in folders]
    for name, (images, ignored) in zip(folders, listings, strict=True):
        if not len(images):
            others, convert = (f", only {counted(ignored)}", ", convert these") if ignored else ("", "")
            raise UserError(
                f"{root / name} has no images ({', '.join(SUFFIXES)}){others}; add some{convert} or remove the class "
                "folder."
            )
    labels = np.repeat(np.arange(len(folders), dtype=np.int32), [len(images) for images, _ in listings])
    with os.scandir(root) as entries:
        beside = (entry.name for entry in entries if not is_system(entry.name) and not entry.is_dir())
        ignored = collections.Counter(suffix_of(name) for name in beside)
    return FolderSource(
        str(root),
        tuple(class_name(name) for name in folders),
        np.concatenate([images for images, _ in listings]),
        labels,
        tuple(folders),
        sum((each for _, each in listings), ignored),
    )


def class_name(folder: str) -> str:
    """Return the name of the class of ``folder``: macOS writes accents in normal form NFD, other systems in NFC."""
    return unicodedata.normalize("NFC", folder)


def check_spellings(root: pathlib.Path, folders: list[str]) -> None:
    """Raise a UserError if two of ``folders`` are one name for some systems."""
    spellings: dict[str, str] = {}
    for name in folders:
        other = spellings.setdefault(class_name(name).casefold(), name)
        if other == name:
            continue
        if class_name(other) == class_name(name):
            raise UserError(
                f"{root} has two class folders {class_name(name)}, {other!a} and {name!a}, which differ "
                "only in Unicode's normal form (NFC and NFD); merge or rename them."
            )
        raise UserError(f"{root} has classes {other} and {name}, which differ only in case; merge or rename them.")


def check_distinct(sources: Iterable[FolderSource]) -> None:
    """Raise a UserError if links make one folder two classes of ``sources``, or a class of two."""
    found: dict[tuple[int, int], pathlib.Path] = {}
    for folder in (pathlib.Path(source.root, name) for source in sources for name in source.folders):
        status = folder.stat()
        other = found.setdefault((status.st_dev, status.st_ino), folder)
        if other is not folder:
            raise UserError(f"{other} and {folder} are one folder, because of a link; remove one of them.")


def split(source: FolderSource, test_fraction: float) -> dict[str, FolderSource]:
    """Return "train" and "test": ``test_fraction`` of all files of ``source``, rounded, but at least one, are "test".

    Files are chosen in the order of a hash of ``CLASS/FILE``, so every machine chooses the same ones, and the choice
    hardly changes when files are added. The fraction is of all files, not of each class. The last file of a class in
    that order stays in "train", so that every class is learned, unless each has a single image. Both splits keep all
    ``class_names``.

    Raises:
      UserError: a split would be left without images, or a class without training images although some have several.
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
    check_trained(source, source.labels[~is_test], f"config.data.test_fraction={test_fraction}")
    return {
        name: dataclasses.replace(source, names=source.names[chosen], labels=source.labels[chosen])
        for name, chosen in (("train", ~is_test), ("test", is_test))
    }


def check_trained(source: FolderSource, labels: np.ndarray, setting: str) -> None:
    """Raise a UserError that names a class without any of the training ``labels``, which ``setting`` leaves.

    If there is no more than one image for each class, as in a sample of ImageNet, it is only logged: no smaller value
    would help.
    """
    counts = np.bincount(labels, minlength=len(source.class_names))
    missing = [source.class_names[label] for label in np.flatnonzero(counts == 0)]
    if not missing:
        return
    if len(source) > len(source.class_names):
        raise UserError(
            f"{setting} leaves the class {missing[0]} of {source.root} without a training image; add images or choose "
            "a smaller value."
        )
    logging.warning(
        "%s: %d of %d classes have no training image, e.g. %s",
        source.root,
        len(missing),
        len(source.class_names),
        missing[0],
    )


def path_hash(source: FolderSource, index: int) -> bytes:
    """Return the SHA-256 of ``CLASS/FILE`` of example ``index``."""
    name = os.fsencode(source.folders[source.labels[index]])
    return hashlib.sha256(name + b"/" + bytes(source.names[index])).digest()


def check_same_classes(train: FolderSource, test: FolderSource) -> None:
    """Raise a UserError that names a class that one of the splits lacks."""
    for has, lacks in ((train, test), (test, train)):
        missing = sorted(set(has.class_names) - set(lacks.class_names))
        if missing:
            near = [name for name in lacks.class_names if name.casefold() == missing[0].casefold()]
            if near:
                raise UserError(
                    f"{has.root} has the class folder {missing[0]}, but {lacks.root} has {near[0]}; rename one of them."
                )
            raise UserError(
                f"{lacks.root} lacks the class folder {missing[0]} of {has.root}; both need the same classes, "
                "so add it there or remove it here."
            )
