"""Image files without their metadata, so that comments, colour profiles or EXIF never decide whether pixels are read.

Pillow reads metadata with the pixels, and refuses a file whose metadata are damaged or larger than its limits. Nothing
here judges the pixels: where a file is cut off or its structure is damaged, its rest stays as it is.
"""

import contextlib
import itertools
import struct
from collections.abc import Iterator

PNG, JPEG, TIFF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", (b"II*\0", b"MM\0*")
# The bit in the first letter of a PNG chunk's type that marks chunks decoders may ignore.
ANCILLARY = 0x20
# JPEG markers of metadata. Two of them, from their least length on, determine how colours are decoded.
METADATA = {*range(0xE0, 0xF0), 0xFE}
JFIF, ADOBE = 0xE0, 0xEE
LEAST_LENGTHS = {JFIF: 16, ADOBE: 14}
# JPEG markers after which pixels follow, or no length.
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xDB)}
WEBP_PIXELS = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"}
# Tags of TIFF that describe the layout of pixels, how they are compressed and which colour and side up they have.
TIFF_PIXELS = {
    *(254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325),
    *(332, 334, 338, 339, 347, *range(512, 522), 529, 530, 531, 532),
}


def stripped(encoded: bytes) -> bytes:
    """Return the image file ``encoded`` without metadata; files of other formats than these four as they are."""
    if encoded.startswith(PNG):
        return PNG + b"".join(png_chunks(encoded))
    if encoded.startswith(JPEG):
        return b"\xff\xd8" + b"".join(jpeg_segments(encoded))
    if encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP":
        chunks = b"".join(webp_chunks(encoded))
        return struct.pack("<4sI4s", b"RIFF", 4 + len(chunks), b"WEBP") + chunks
    if encoded.startswith(TIFF):
        with contextlib.suppress(struct.error):
            return first_directory(encoded)
    return encoded


def png_chunks(png: bytes) -> Iterator[memoryview]:
    """Yield the chunks of ``png`` that are not ancillary."""
    place, content = len(PNG), memoryview(png)
    while place + 8 <= len(png):  # Length and type.
        end = place + 12 + int.from_bytes(png[place : place + 4])
        if not png[place + 4] & ANCILLARY:
            yield content[place:end]
        place = end


def jpeg_segments(jpeg: bytes) -> Iterator[memoryview]:
    """Yield the segments of ``jpeg`` before its pixels that are not metadata, and then all the rest."""
    place, content = 2, memoryview(jpeg)
    while place + 4 <= len(jpeg) and jpeg[place] == 0xFF and jpeg[place + 1] not in WITHOUT_LENGTH:
        marker, length = jpeg[place + 1], int.from_bytes(jpeg[place + 2 : place + 4])
        if marker == 0xFF:  # A fill byte.
            place += 1
            continue
        if marker not in METADATA or length >= LEAST_LENGTHS.get(marker, len(jpeg)):
            yield content[place : place + 2 + length]
        place += 2 + length
    yield content[place:]


def webp_chunks(webp: bytes) -> Iterator[memoryview]:
    """Yield the chunks of ``webp`` that describe or hold pixels."""
    place, content = 12, memoryview(webp)
    while place + 8 <= len(webp):  # Type and length.
        length = int.from_bytes(webp[place + 4 : place + 8], "little")
        end = place + 8 + length + length % 2
        if webp[place : place + 4] in WEBP_PIXELS:
            yield content[place:end]
        place = end


def first_directory(tiff: bytes) -> bytes:
    """Return ``tiff`` with only its first image, and of its tags only ``TIFF_PIXELS``.

    Raises:
      struct.error: it is cut off.
    """
    order = "<" if tiff.startswith(b"II") else ">"
    [start] = struct.unpack_from(f"{order}I", tiff, 4)
    [count] = struct.unpack_from(f"{order}H", tiff, start)
    entries = (tiff[place : place + 12] for place in itertools.islice(itertools.count(start + 2, 12), count))
    kept = [entry for entry in entries if struct.unpack(f"{order}H10x", entry)[0] in TIFF_PIXELS]
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)
    return tiff[:start] + directory + tiff[start + len(directory) :]
