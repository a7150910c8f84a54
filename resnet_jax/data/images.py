"""Decoding of image files, and cropping on the host (paper, section 3.4), with Pillow.

Pixels are those of ``Image.open(file).convert("RGB")``, as in torchvision's ``ImageFolder``: the format is told by the
content, never by the name; an alpha channel is dropped, and so are all frames but the first; 16-bit grey is cut off at
255. A rotation that EXIF asks for is not done, which neither torchvision nor TensorFlow does.

A crop is decoded, cut and resized at once. Its box is ``(left, top, right, bottom)`` in pixels of the original image,
and may cut pixels in two. Flips are not done here.
"""

import contextlib
import io
import math
import re
import struct
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

Box = tuple[float, float, float, float]

# All that Pillow may take a file for: others run programs (EPS) or are recognised by nearly nothing (TGA).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM", "TIFF")
# The shorter side that the image is resized to, in 224ths of the side of the crop.
SHORTEST, LONGEST = 256, 480
# Torchvision's RandomResizedCrop: the share of the image's area, and width over height.
AREAS = (0.08, 1.0)
RATIOS = (3 / 4, 4 / 3)
# Markers of JPEG: of frames of the common kinds, and of the pixels, before which any frame is told.
STARTS_OF_FRAMES = (0xC0, 0xC1, 0xC2, 0xDA)
END_OF_IMAGE = b"\xff\xd9"
# As ``warnings.filters`` has it.
QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


class BadImage(Exception):  # noqa: N818, it is the file that is bad.
    """A file that is no image that can be decoded, said in one sentence that names it."""


def decode(encoded: bytes, where: str) -> np.ndarray:
    """Return the whole image in file ``encoded``, uint8 ``[height, width, 3]``, read-only.

    Raises:
      BadImage: it is none, or cut off, or has more pixels than Pillow takes for harmless (179 million).
    """
    return np.asarray(load(open_image(encoded, where), where))


def train_crop(encoded: bytes, where: str, augmentation: str, rng: np.random.Generator, side: int = 224) -> np.ndarray:
    """Return a random crop of the image in file ``encoded``, uint8 ``[side, side, 3]``, read-only.

    Args:
      encoded: the file's content.
      where: what an error calls the file.
      augmentation: a key of ``AUGMENTATIONS``.
      rng: where the crop is drawn from; equal generators give equal pixels.
      side: height and width of the result, in pixels.

    Raises:
      BadImage: as ``decode`` does.
    """
    image = open_image(encoded, where)
    return crop(image, where, AUGMENTATIONS[augmentation](*image.size, side, rng), side)


def central_crop(encoded: bytes, where: str, side: int = 224) -> np.ndarray:
    """Return the crop of the image in file ``encoded`` that is evaluated, uint8 ``[side, side, 3]``, read-only.

    Raises:
      BadImage: as ``decode`` does.
    """
    image = open_image(encoded, where)
    return crop(image, where, central_box(*image.size, side), side)


def paper_box(width: int, height: int, side: int, rng: np.random.Generator) -> Box:
    """Return a random crop of an image resized so that its shorter side is random (paper, section 3.4).

    For ``side`` 224 the shorter side is an integer from 256 to 480; for others these are scaled with it.
    """
    shorter = int(rng.integers(round(side * SHORTEST / 224), round(side * LONGEST / 224), endpoint=True))
    columns, rows = resized(width, height, shorter)
    left, top = rng.integers(columns - side, endpoint=True), rng.integers(rows - side, endpoint=True)
    return original_box(width, height, (columns, rows), int(left), int(top), side)


def random_resized_box(width: int, height: int, side: int, rng: np.random.Generator) -> Box:
    """Return the box of torchvision's ``RandomResizedCrop`` with its defaults, whatever ``side`` is.

    Area and logarithm of the ratio are uniform. After ten boxes that do not fit it is the largest central one whose
    ratio is allowed.
    """
    for _ in range(10):
        area = width * height * rng.uniform(*AREAS)
        ratio = math.exp(rng.uniform(*np.log(RATIOS)))
        columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < columns <= width and 0 < rows <= height:
            left = int(rng.integers(width - columns, endpoint=True))
            top = int(rng.integers(height - rows, endpoint=True))
            return left, top, left + columns, top + rows
    columns, rows = min(width, round(height * RATIOS[1])), min(height, round(width / RATIOS[0]))
    left, top = (width - columns) // 2, (height - rows) // 2
    return left, top, left + columns, top + rows


def central_box(width: int, height: int, side: int) -> Box:
    """Return the central crop of an image resized to a shorter side of 256 (for ``side`` 224, else in proportion)."""
    columns, rows = resized(width, height, round(side * SHORTEST / 224))
    return original_box(width, height, (columns, rows), round((columns - side) / 2), round((rows - side) / 2), side)


AUGMENTATIONS: dict[str, Callable[[int, int, int, np.random.Generator], Box]] = {
    "paper": paper_box,
    "random_resized": random_resized_box,
}


def resized(width: int, height: int, shorter: int) -> tuple[int, int]:
    """Return width and height of an image resized to side ``shorter``, the longer side cut to an integer."""
    return shorter * width // min(width, height), shorter * height // min(width, height)


def original_box(width: int, height: int, size: tuple[int, int], left: int, top: int, side: int) -> Box:
    """Return in pixels of the original the square at ``left``, ``top`` of the image resized to ``size``."""
    x, y = width / size[0], height / size[1]
    return left * x, top * y, min((left + side) * x, width), min((top + side) * y, height)


def crop(image: ImageFile.ImageFile, where: str, box: Box, side: int) -> np.ndarray:
    """Return the part ``box`` of an opened ``image``, resized bilinearly: uint8 ``[side, side, 3]``.

    A JPEG is decoded at the least scale (1, 1/2, 1/4 or 1/8) that has at least ``side`` pixels along ``box``.

    Raises:
      BadImage: the pixels cannot be decoded.
    """
    width, height = image.size
    left, top, right, bottom = box
    drafted = image.draft("RGB", (math.ceil(width * side / (right - left)), math.ceil(height * side / (bottom - top))))
    scale = drafted[1][2] / width if drafted else 1
    # Pixels of the resized image are made of those up to one step away; chroma of the rows next to them.
    leave_rows_below(image, (width, height), math.ceil(bottom + (bottom - top) / side) + 16, scale)
    box = (left * scale, top * scale, right * scale, bottom * scale)
    return np.asarray(load(image, where).resize((side, side), Image.Resampling.BILINEAR, box=box))


def leave_rows_below(image: ImageFile.ImageFile, size: tuple[int, int], rows: int, scale: float) -> None:
    """Let no more than ``rows`` be decoded, at ``scale``, of an opened JPEG of ``size``, if it is a baseline one.

    Its header is made to say that there are no more; decoders pass over the rest of the file up to its end. The size
    of ``image`` stays what it is, and pixels further down are black.
    """
    width, height = size
    if image.format != "JPEG" or rows >= height:
        return
    file: io.BytesIO = image.fp  # type: ignore[assignment]
    end = file.getvalue().rfind(END_OF_IMAGE)
    with file.getbuffer() as encoded:
        place = 2
        while place + 9 <= len(encoded) and encoded[place] == 0xFF and encoded[place + 1] not in STARTS_OF_FRAMES:
            place += 2 + int.from_bytes(encoded[place + 2 : place + 4])
        # Marker, length, bits, height, width.
        frame = bytes(encoded[place : place + 9])
        # Without its end a file is cut off, which decoding all of it tells.
        if frame == struct.pack(">HHBHH", 0xFFC0, 17, 8, height, width) and end > place:
            encoded[place + 5 : place + 7] = rows.to_bytes(2)
            [tile] = image.tile
            image.tile = [tile._replace(extents=(0, 0, image.width, math.ceil(rows * scale)))]


def open_image(encoded: bytes, where: str) -> ImageFile.ImageFile:
    """Return the image in file ``encoded``, of which the header alone is read.

    Raises:
      BadImage: there is none, or it is too large.
    """
    if not encoded:
        raise BadImage(f"{where} is empty.")
    with reading(where):
        return Image.open(io.BytesIO(encoded), formats=FORMATS)


def load(image: ImageFile.ImageFile, where: str) -> Image.Image:
    """Return ``image`` with its pixels decoded, as RGB.

    Raises:
      BadImage: the pixels cannot be decoded.
    """
    with reading(where):
        image.load()
        # Of 8-bit RGB ``convert`` would make a copy.
        return image if image.mode == "RGB" else image.convert("RGB")


@contextlib.contextmanager
def reading(where: str) -> Iterator[None]:
    """Make a BadImage that names ``where`` of what Pillow raises, and silence what it warns of.

    Damaged metadata are no concern of ours. The silence lasts, because ``warnings.catch_warnings`` would end it for all
    threads.
    """
    if QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        yield
    except MemoryError:  # Not the file's fault.
        raise
    except UnidentifiedImageError as error:
        raise BadImage(f"{where} is no image that can be decoded (none of {', '.join(FORMATS)}).") from error
    except Exception as error:  # Of a damaged file Pillow's decoders raise what they like.
        reason = " ".join(f"{error or type(error).__name__}".split())[:300].rstrip(".")
        raise BadImage(f"{where} is no image that can be decoded ({reason}).") from error
