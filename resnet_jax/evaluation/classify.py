"""Classification of image files by a trained net, without its training data."""

import itertools
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

import numpy as np
import scipy.special
from absl import logging
from jax.sharding import Mesh

from resnet_jax.data import images
from resnet_jax.data.dataset import means
from resnet_jax.data.layout import SUFFIXES, is_image, is_system
from resnet_jax.errors import UserError
from resnet_jax.evaluation.nets import TrainedNet
from resnet_jax.evaluation.predict import predict


class Classified(NamedTuple):
    """An image file and the probabilities of its classes.

    Attributes:
      file: image file.
      probabilities: probability of each class by its name, the highest first; they add up to 1.
    """

    file: pathlib.Path
    probabilities: dict[str, float]


def classify(
    net: TrainedNet, files: Sequence[pathlib.Path], mesh: Mesh, downsample: int = 1, skip: bool = False
) -> list[Classified]:
    """Return the class probabilities of ``net`` for each image in ``files``, preprocessed as in training.

    A net trained on crops takes images of any size and mode and uses the central crop. Other nets take images of their
    training size; a net for grey images takes files in colour only if all their pixels are grey.

    Args:
      net: trained net; classes without names are called by their number.
      files: image files, for example from ``image_files``.
      mesh: devices.
      downsample: ``config.data.downsample`` of the net's run.
      skip: whether files that cannot be decoded are left out with a warning.

    Raises:
      UserError: a file cannot be read or decoded, does not have the net's image size and mode, or no image is left;
        or the net computes non-finite numbers.
    """
    seen: list[pathlib.Path] = []

    def read() -> Iterator[np.ndarray]:
        for file in files:
            try:
                image = read_image(file, net, downsample)
            except images.BadImage as error:
                if not skip:
                    raise UserError(f"{error} Leave it out.") from error
                logging.warning("%s Skipped.", error)
                continue
            seen.append(file)
            yield image

    first = next(pixels := read(), None)
    if first is None:
        raise UserError(f"none of {len(files)} images can be decoded; give others.")
    logits, _ = predict(net, itertools.chain([first], pixels), mesh)
    names = net.class_names or tuple(map(str, range(net.num_classes)))
    found = []
    for file, of_image in zip(seen, scipy.special.softmax(logits.astype(np.float64), axis=1), strict=True):
        order = np.argsort(-of_image, kind="stable")
        found.append(Classified(file, {names[index]: float(of_image[index]) for index in order}))
    return found


def read_image(file: pathlib.Path, net: TrainedNet, downsample: int) -> np.ndarray:
    """Return the image in ``file`` in the form for ``net``, uint8 ``[height, width, channels]``; see ``classify``.

    Raises:
      BadImage: the file is not an image.
      UserError: it cannot be read, or has another size or other colours than the net takes.
    """
    try:
        encoded = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); give another.") from error
    pixels, channels = images.decode(encoded, str(file)), net.mean.shape[-1]
    if channels not in (1, 3):
        raise UserError(f"{net.name} takes images of {channels} channels, which files of images do not have.")
    if channels == 1:
        if np.ptp(pixels, axis=-1).any():
            raise UserError(f"{file} is in colour, but {net.name} takes grey images; convert it.")
        pixels = pixels[..., :1]
    wanted = net.size and tuple(side * downsample for side in net.size)
    if wanted not in (None, pixels.shape[:2]):
        sizes = ["x".join(map(str, size)) for size in (pixels.shape[:2], wanted)]
        raise UserError(f"{file} has {sizes[0]} pixels, but {net.name} takes images of {sizes[1]}; resize it.")
    return means(pixels[None], downsample)[0] if downsample > 1 else pixels


def image_files(paths: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """Return the files among ``paths`` and the images in and below the folders among them, sorted within a folder.

    In folders, links are followed, and hidden and system files are left out, as in training.

    Raises:
      UserError: there is no such file or folder, a folder cannot be read, or it has no images.
    """
    found: list[pathlib.Path] = []
    try:
        for path in paths:
            if path.is_dir():
                found += images_below(path)
            elif path.exists():
                found.append(path)
            else:
                raise UserError(f"{path} does not exist; give images or folders of images.")
    except OSError as error:  # A name can be too long.
        raise UserError(f"{error.filename} cannot be read ({error.strerror}); give another.") from error
    return found


def images_below(root: pathlib.Path) -> list[pathlib.Path]:
    """Return the images in and below ``root``, sorted; a broken link is among them, so that reading it is an error.

    Raises:
      UserError: there are none.
      OSError: a folder cannot be read.
    """
    images, others, seen = [], 0, set()
    for top, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        folder = pathlib.Path(top)
        folders[:] = [name for name in folders if not is_system(name)]
        if folder.resolve() in seen:  # A link leads back to it.
            folders.clear()
            continue
        seen.add(folder.resolve())
        for file in (folder / name for name in names if not is_system(name)):
            if is_image(file.name) and (file.is_file() or file.is_symlink()):
                images.append(file)
            else:
                others += 1
    if not images:
        raise UserError(f"{root} has no images ({', '.join(SUFFIXES)}); give images or folders of images.")
    if others:
        logging.info("%s: %d other files are ignored", root, others)
    return sorted(images)


def refuse(error: OSError) -> NoReturn:
    """Raise ``error``, which ``os.walk`` would drop."""
    raise error
