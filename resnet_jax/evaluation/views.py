"""What a net sees of an image: the image itself, crops of it, or all of it at several sizes.

Nets trained on crops, as of 224x224 pixels of images whose shorter side is 256 or more, are tested in one of three ways
(paper, section 3.4); others take images as they are.
"""

import numpy as np
import PIL.Image

from resnet_jax.data.images import SHORTEST, resized
from resnet_jax.errors import UserError

PROTOCOLS = ("single", "ten_crop", "multi_scale")

CROP = 224  # Of the imagenet family. For another crop the sides below are scaled with it.
# Paper, section 3.4, fully convolutional testing.
SCALES = (224, 256, 384, 480, 640)
# The nets halve the sides of an image five times. Sides that are multiples leave no rest, and images of nearly the
# same shape go in one batch and one program: at most 16 pixels of the longer side are stretched or squeezed.
STRIDE = 32


def views(image: np.ndarray, side: int | None, protocol: str, flip: bool) -> list[np.ndarray]:
    """Return what a net is to see of ``image``; its scores for all of them are averaged.

    Args:
      image: uint8 ``[height, width, channels]``.
      side: of the crops that the net is for; None if it takes images as they are.
      protocol: "single": the central crop. "ten_crop": the four corners and the centre, and their mirror images.
        "multi_scale": all of the image at five sizes.
      flip: whether each view is mirrored too; those of "ten_crop" always are.

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
    """Raise a UserError if the net called ``name``, for crops of ``side``, is not tested by ``protocol``."""
    if side is None and protocol != "single":
        raise UserError(
            f"--protocol={protocol} is of nets trained on crops, but {name} sees images as they are, and with --flip "
            "their mirror images."
        )


def scaled(length: int, side: int) -> int:
    """Return for crops of ``side`` what ``length`` is for those of 224."""
    return round(length * side / CROP)


def with_shorter_side(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Return the height and width of an image of ``shape`` scaled to a shorter side of ``side`` pixels."""
    width, height = resized(shape[1], shape[0], side)
    return height, width


def whole_strides(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Return the same with the longer side rounded to a multiple of ``STRIDE``."""
    height, width = (round(length / STRIDE) * STRIDE for length in with_shorter_side(shape, side))
    return height, width


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return ``image`` ``[height, width, channels]`` in another size, by bilinear interpolation without aliasing."""
    if image.shape[:2] == (height, width):
        return image
    grey = image.shape[-1] == 1
    resized = PIL.Image.fromarray(image[..., 0] if grey else image).resize(
        (width, height), PIL.Image.Resampling.BILINEAR
    )
    return np.asarray(resized).reshape(height, width, -1)


def corners(shape: tuple[int, ...], side: int, protocol: str) -> list[tuple[int, int]]:
    """Return the first row and column of the central crop, of "ten_crop" behind those of the four corners."""
    bottom, right = (length - side for length in shape[:2])
    centre = (round(bottom / 2), round(right / 2))
    return [(0, 0), (0, right), (bottom, 0), (bottom, right), centre] if protocol == "ten_crop" else [centre]


def crop(image: np.ndarray, side: int, top: int, left: int) -> np.ndarray:
    """Return the square crop of ``image`` that begins at ``top`` and ``left``."""
    return image[top : top + side, left : left + side]
