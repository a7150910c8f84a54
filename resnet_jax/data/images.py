"""Decoding of image files, and cropping on the host (paper, section 3.4).

Pixels are as from ``Image.open(file).convert("RGB")``, as in torchvision's ``ImageFolder``: the format is recognised
by the content, never by the name; the alpha channel and all frames but the first are dropped. Unlike there, grey of
more than 8 bits is scaled to 8 bits instead of clipped. EXIF rotation is ignored, as torchvision and TensorFlow do.
Common JPEGs are decoded by simplejpeg, all other files by Pillow, which also diagnoses damaged files.

A crop is decoded, cut and resized in one go. Its box is ``(left, top, right, bottom)`` in pixels of the original image,
not necessarily integers. Flips are not done here.
"""

import contextlib
import io
import math
import re
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from resnet_jax.data import metadata

try:
    import cykooz_resizer
except ImportError:  # It has no wheels for Linux on ARM.
    cykooz_resizer = None

Box = tuple[float, float, float, float]

# The formats Pillow may recognise: others run programs (EPS) or are hardly recognisable (TGA).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM", "TIFF")
# Range of the shorter side that the image is resized to, in 224ths of the side of the crop.
SHORTEST, LONGEST = 256, 480
# Torchvision's RandomResizedCrop: the share of the image's area, and width over height.
AREAS = (0.08, 1.0)
RATIOS = (3 / 4, 4 / 3)
# Factors by which decoders can shrink a JPEG at little cost.
REDUCTIONS = (1, 2, 4, 8)
# Colour spaces of JPEGs that simplejpeg converts to RGB.
COLOURS = ("Gray", "YCbCr", "RGB")
# JPEG markers: start of frame of the common kinds, and start of the pixel data, which comes after any frame header.
STARTS_OF_FRAMES = (0xC0, 0xC1, 0xC2, 0xDA)
END_OF_IMAGE = b"\xff\xd9"
# Tags of TIFF, and values of the last four.
BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC, PLANES, SAMPLE_FORMAT = 258, 259, 262, 284, 339
UNCOMPRESSED, WHITE_IS_ZERO, SEPARATE, SIGNED = 1, 0, 2, 2
# An entry of ``warnings.filters``.
QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


class BadImage(Exception):  # noqa: N818, it is the file that is bad.
    """A file that cannot be decoded as an image; the message names it."""


def decode(encoded: bytes, where: str) -> np.ndarray:
    """Return the whole image in file ``encoded``, uint8 ``[height, width, 3]``, read-only.

    Raises:
      BadImage: it is not an image, is truncated, has more pixels than Pillow considers safe (179 million), or its
        pixels have no defined brightness.
    """
    image = open_image(encoded, where)
    with reading(where):
        image.load()
        check_layout(image)
        if image.mode == "F" or image.mode.startswith("I"):
            levels = grey_levels(image)
            return np.broadcast_to(levels[..., None], (*levels.shape, 3))
        # ``convert`` would copy 8-bit RGB.
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def check_layout(image: ImageFile.ImageFile) -> None:
    """Raise a ValueError if ``image`` holds signed integers, whose white no file defines, or Pillow misreads it."""
    tags = tiff_tags(image)
    if SIGNED in tags.get(SAMPLE_FORMAT, ()):
        raise ValueError("its pixels are signed integers; convert it to 8 or 16 unsigned bits")
    raw_planes = tags.get(COMPRESSION, UNCOMPRESSED) == UNCOMPRESSED and tags.get(PLANES) == SEPARATE
    if raw_planes and max(tags.get(BITS_PER_SAMPLE, (8,))) > 8 and len(image.getbands()) > 1:
        raise ValueError("its colours lie in separate planes of 16 bits; convert it to 8 bits or compress it")


def grey_levels(image: ImageFile.ImageFile) -> np.ndarray:
    """Return the pixels of a loaded grey ``image`` of more than 8 bits, scaled to uint8 ``[height, width]``.

    Raises:
      ValueError: it has floats outside 0 to 1 or 32-bit integers, whose white no file defines.
    """
    tags, pixels = tiff_tags(image), np.asarray(image)
    if image.mode == "F":
        if not (pixels.min() >= 0 and pixels.max() <= 1):  # False for NaN too.
            raise ValueError(
                f"its pixels are floats from {pixels.min():g} to {pixels.max():g}, not from 0 to 1; "
                "scale them or convert it to 8 or 16 bits"
            )
        levels = np.round(pixels * np.float32(255)).astype(np.uint8)
    elif image.mode == "I" and image.format == "TIFF":
        raise ValueError("its pixels are 32-bit integers; convert it to 8 or 16 bits")
    else:  # Pillow gives PNG and PPM of 16 bits mode I too, and leaves TIFF of 12 bits from 0 to 4095.
        white = 2 ** tags.get(BITS_PER_SAMPLE, (16,))[0] - 1
        levels = np.round(np.arange(white + 1) * (255 / white)).astype(np.uint8)[pixels]
    # Pillow does not invert such images.
    return 255 - levels if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else levels


def tiff_tags(image: ImageFile.ImageFile) -> Mapping[int, Any]:
    """Return the tags of a TIFF, none for other formats."""
    return image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}


def train_crop(encoded: bytes, where: str, augmentation: str, rng: np.random.Generator, side: int = 224) -> np.ndarray:
    """Return a random crop of the image in file ``encoded``, uint8 ``[side, side, 3]``, read-only.

    Args:
      encoded: the file's content.
      where: name of the file in errors.
      augmentation: a key of ``AUGMENTATIONS``.
      rng: source of randomness; equal generators give equal pixels.
      side: height and width of the result, in pixels.

    Raises:
      BadImage: as ``decode``.
    """
    return crop(encoded, where, AUGMENTATIONS[augmentation](*size(encoded, where), side, rng), side)


def central_crop(encoded: bytes, where: str, side: int = 224) -> np.ndarray:
    """Return the crop of the image in file ``encoded`` that is evaluated, uint8 ``[side, side, 3]``, read-only.

    Raises:
      BadImage: as ``decode``.
    """
    return crop(encoded, where, central_box(*size(encoded, where), side), side)


def paper_box(width: int, height: int, side: int, rng: np.random.Generator) -> Box:
    """Return a random crop of an image resized so that its shorter side is random (paper, section 3.4).

    For ``side`` 224 the shorter side is an integer from 256 to 480; for others the range scales with ``side``.
    """
    shorter = int(rng.integers(round(side * SHORTEST / 224), round(side * LONGEST / 224), endpoint=True))
    columns, rows = resized(width, height, shorter)
    left, top = rng.integers(columns - side, endpoint=True), rng.integers(rows - side, endpoint=True)
    return original_box(width, height, (columns, rows), int(left), int(top), side)


def random_resized_box(width: int, height: int, side: int, rng: np.random.Generator) -> Box:
    """Return the box of torchvision's ``RandomResizedCrop`` with its defaults, whatever ``side`` is.

    Area and logarithm of the ratio are uniform. If ten boxes in a row do not fit, the largest central box with an
    allowed ratio is returned.
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
    """Return width and height of an image resized to shorter side ``shorter``, the longer side rounded down."""
    return shorter * width // min(width, height), shorter * height // min(width, height)


def original_box(width: int, height: int, size: tuple[int, int], left: int, top: int, side: int) -> Box:
    """Return the square at ``left``, ``top`` of the image resized to ``size``, in pixels of the original."""
    x, y = width / size[0], height / size[1]
    return left * x, top * y, min((left + side) * x, width), min((top + side) * y, height)


def crop(encoded: bytes, where: str, box: Box, side: int) -> np.ndarray:
    """Return the part ``box`` of the image in file ``encoded``, resized bilinearly: uint8 ``[side, side, 3]``.

    A JPEG is decoded at the smallest scale (1, 1/2, 1/4 or 1/8) at which ``box`` has at least ``side`` pixels.

    Raises:
      BadImage: the pixels cannot be decoded.
    """
    left, top, right, bottom = box
    reduction = max(each for each in REDUCTIONS if each == 1 or each * side <= min(right - left, bottom - top))
    # A resized pixel depends on pixels up to one step away, and their chroma on the neighbouring rows.
    pixels = upper_rows(encoded, math.ceil(bottom + (bottom - top) / side) + 16, reduction)
    if pixels is None:
        pixels, reduction = decode(encoded, where), 1
    return resize(pixels, (left / reduction, top / reduction, right / reduction, bottom / reduction), side)


def size(encoded: bytes, where: str) -> tuple[int, int]:
    """Return width and height of the image in file ``encoded``, reading only its header.

    Raises:
      BadImage: it is not an image, or too large.
    """
    return jpeg_size(encoded) or open_image(encoded, where).size


def jpeg_size(encoded: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG, or None for files that Pillow has to decode.

    These are other formats, CMYK, and files that are damaged, truncated or suspiciously large.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded, strict=False)
    except (ValueError, KeyError):  # KeyError: the header has no colour space.
        return None
    whole = encoded.rfind(END_OF_IMAGE) > start_of_frame(encoded)
    harmless = width * height <= (Image.MAX_IMAGE_PIXELS or 0)
    return (width, height) if whole and harmless and colours in COLOURS else None


def upper_rows(encoded: bytes, rows: int, reduction: int) -> np.ndarray | None:
    """Return at least the first ``rows`` of a JPEG shrunk ``reduction`` times, uint8 ``[height, width, 3]``.

    None for files that Pillow has to decode. For common baseline JPEGs the rows below are not decoded: the height in
    the header is set to ``rows``, and decoders skip the rest of the file.
    """
    whole = jpeg_size(encoded)
    if whole is None:
        return None
    width, height = whole
    place = start_of_frame(encoded)
    if rows < height and encoded[place : place + 9] == struct.pack(">HHBHH", 0xFFC0, 17, 8, height, width):
        encoded = encoded[: place + 5] + rows.to_bytes(2) + encoded[place + 7 :]
        height = rows
    try:
        return simplejpeg.decode_jpeg(
            encoded,
            min_height=-(-height // reduction),
            min_width=-(-width // reduction),
            min_factor=reduction,
            strict=False,
        )
    except ValueError:
        return None


def start_of_frame(jpeg: bytes) -> int:
    """Return the offset in ``jpeg`` of the segment that holds the image size, or where segments end without one."""
    place = 2
    while place + 4 <= len(jpeg) and jpeg[place] == 0xFF and jpeg[place + 1] not in STARTS_OF_FRAMES:
        place += 2 + int.from_bytes(jpeg[place + 2 : place + 4])
    return place


def resize(pixels: np.ndarray, box: Box, side: int) -> np.ndarray:
    """Return the part ``box`` of ``pixels`` ``[height, width, 3]`` as ``[side, side, 3]``: bilinear, with antialiasing.

    Pixels differ from Pillow's by at most 1 of 255, rarely 2. Without cykooz.resizer, Pillow resizes.
    """
    if cykooz_resizer is None:
        return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR, box=box))
    height, width, _ = pixels.shape
    left, top, right, bottom = box
    source = cykooz_resizer.ImageData(width, height, cykooz_resizer.PixelType.U8x3, pixels.tobytes())
    target = cykooz_resizer.ImageData(side, side, cykooz_resizer.PixelType.U8x3)
    cykooz_resizer.Resizer().resize(
        source,
        target,
        cykooz_resizer.ResizeOptions(
            resize_alg=cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.bilinear),
            crop_box=cykooz_resizer.CropBox(left, top, right - left, bottom - top),
        ),
    )
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(side, side, 3)


def open_image(encoded: bytes, where: str) -> ImageFile.ImageFile:
    """Return the image in file ``encoded``, reading only its header.

    Raises:
      BadImage: it is not an image, or too large.
    """
    if not encoded:
        raise BadImage(f"{where} is empty.")
    with reading(where):
        return Image.open(io.BytesIO(metadata.stripped(encoded)), formats=FORMATS)


@contextlib.contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn exceptions of Pillow into a BadImage that names ``where``, and silence Pillow's warnings.

    They are about metadata, which is not used. They stay silenced, because leaving ``warnings.catch_warnings`` would
    affect all threads.
    """
    if QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        yield
    except MemoryError:  # Not the file's fault.
        raise
    except UnidentifiedImageError as error:
        kinds = f"not one of {', '.join(FORMATS)}, or of a kind that Pillow does not read"
        raise BadImage(f"{where} cannot be decoded as an image ({kinds}).") from error
    except Exception as error:  # Pillow's decoders raise anything on damaged files.
        reason = " ".join(f"{error or type(error).__name__}".split())[:300].rstrip(".")
        raise BadImage(f"{where} cannot be decoded as an image ({reason}).") from error
