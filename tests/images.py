"""Images and small folders of them, for tests of what is streamed."""

import struct
import zlib

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee", "cow")


def photo(width, height):
    """Return an RGB image as smooth as a photograph."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8)).resize((width, height))
    noise = random.integers(-9, 10, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8))


def write_folder(root, count=20, sides=(40, 60), suffix=".jpg"):
    """Write ``count`` random images of several sizes, of its own tint, for each of three classes under ``root``."""
    random = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        folder = root / name
        folder.mkdir(parents=True)
        for index in range(count):
            height, width = random.integers(*sides, 2)
            pixels = random.integers(0, 128, (height, width, 3), np.uint8)
            pixels[..., number] += 100
            Image.fromarray(pixels).save(folder / f"{index}{suffix}")
    return root


def tiff(pixels, tags=(), order="<"):
    """Return ``pixels`` as a TIFF without compression, with ``tags``: number, type, count and 4 bytes of value each."""
    kinds = {"u": 1, "i": 2, "f": 3}
    content = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    content += bytes(len(content) % 2)

    def short(tag, value):
        return tag, 3, 1, struct.pack(f"{order}HH", value, 0)

    def long(tag, value):
        return tag, 4, 1, struct.pack(f"{order}I", value)

    height, width, *channels = pixels.shape
    bits = short(258, 8 * pixels.itemsize)
    if channels:
        bits = (258, 3, 3, struct.pack(f"{order}I", 8 + len(content)))
        content += struct.pack(f"{order}3H", *[8 * pixels.itemsize] * 3)
    layout = [
        *(short(256, width), short(257, height), bits, short(259, 1), short(262, 2 if channels else 1), long(273, 8)),
        *(short(277, *channels or [1]), short(278, height), long(279, pixels.nbytes)),
        short(339, kinds[pixels.dtype.kind]),
    ]
    entries = {tag: entry for tag, *entry in [*layout, *tags]}  # A tag of the caller replaces one of these.
    directory = b"".join(
        struct.pack(f"{order}HHI", tag, kind, count) + value for tag, (kind, count, value) in sorted(entries.items())
    )
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8 + len(content))
    return header + content + struct.pack(f"{order}H", len(entries)) + directory + bytes(4)


def png_chunk(kind, content):
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
