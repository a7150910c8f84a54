"""Views of an image that a net is tested on: the image itself, crops of it, or the whole image at several sizes.

Nets trained on crops, such as 224x224 pixels of images with a shorter side of 256 or more, are tested in one of three
ways (paper, section 3.4); other nets take images as they are.
"""

import numpy as np
import PIL.Image

from resnet_jax.data.images import SHORTEST, resized
from resnet_jax.errors import UserError

PROTOCOLS = ("single", "ten_crop", "multi_scale")

CROP = 224  # Side of the imagenet family's crops; for other crops the sides below scale in proportion.
# Paper, section 3.4, fully convolutional testing.
SCALES = (224, 256, 384, 480, 640)
# The nets halve the sides of an image five times. The longer side is rounded to a multiple, stretched or squeezed by at
# most 16 pixels, so that images of nearly the same shape share a batch and a compiled program.
STRIDE = 32


def views(image: np.ndarray, side: int | None, protocol: str, flip: bool) -> list[np.ndarray]:
    """Return the views of ``image`` over which a net's probabilities are averaged.

    Args:
      image: uint8 ``[height, width, channels]``.
      side: side of the net's training crops; None if it takes images as they are.
      protocol: "single": the central crop. "ten_crop": the four corners and the centre, and their mirror images.
        "multi_scale": the whole image at five sizes.
      flip: whether to add the mirror image of each view; "ten_crop" always does.

    Returns:
      Views, uint8 ``[height, width, channels]`` each.
    """
    if side is None:
        wholes = [image]
    elif protocol == "multi_scale":
        wholes = [resize(image, *whole_strides(image.shape, scaled(scale, side))) for scale in SCALES]
    else:
        wholes = [resize(image, *with_shorter_side(image.shape, scaled(SHORTEST, side)))]
    if flip or protocol == "ten_crop":
        wholes += [whole[:, ::-1] for whole in wholes]
    if side is None or protocol == "multi_scale":
        return wholes
    return [crop(whole, side, *corner) for whole in wholes for corner in corners(whole.shape, side, protocol)]


def check_protocol(name: str, side: int | None, protocol: str) -> None:
    """Raise a UserError if ``protocol`` does not apply to the net called ``name``, trained on crops of ``side``."""
    if side is None and protocol != "single":
        raise UserError(
            f"--protocol={protocol} is for nets trained on crops, but {name} takes images as they are; use "
            "--protocol=single, with --flip to average mirror images."
        )


def scaled(length: int, side: int) -> int:
    """Return ``length``, given for crops of 224, scaled to crops of ``side``."""
    return round(length * side / CROP)


def with_shorter_side(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Return the height and width of an image of ``shape`` scaled to a shorter side of ``side`` pixels."""
    width, height = resized(shape[1], shape[0], side)
    return height, width


def whole_strides(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Return ``with_shorter_side`` with both sides rounded to a multiple of ``STRIDE``."""
    height, width = (round(length / STRIDE) * STRIDE for length in with_shorter_side(shape, side))
    return height, width


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return ``image`` ``[height, width, channels]`` resized by bilinear interpolation with antialiasing."""
    if image.shape[:2] == (height, width):
        return image
    grey = image.shape[-1] == 1
    resized = PIL.Image.fromarray(image[..., 0] if grey else image).resize(
        (width, height), PIL.Image.Resampling.BILINEAR
    )
    return np.asarray(resized).reshape(height, width, -1)


def corners(shape: tuple[int, ...], side: int, protocol: str) -> list[tuple[int, int]]:
    """Return the first row and column of each crop: the central one, for "ten_crop" preceded by the four corners."""
    bottom, right = (length - side for length in shape[:2])
    centre = (round(bottom / 2), round(right / 2))
    return [(0, 0), (0, right), (bottom, 0), (bottom, right), centre] if protocol == "ten_crop" else [centre]


def crop(image: np.ndarray, side: int, top: int, left: int) -> np.ndarray:
    """Return the square crop of ``image`` that begins at ``top`` and ``left``."""
    return image[top : top + side, left : left + side]
