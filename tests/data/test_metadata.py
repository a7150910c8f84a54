"""Image files with large, damaged or odd metadata: whatever they are, pixels are read as without them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from resnet_jax.data import images, metadata
from tests.images import photo, png_chunk, tiff

IMAGE = photo(60, 40)
GARBAGE = b"\xff\xfegarbage" * 9
FAR = (10**9).to_bytes(4, "little")


def file(format_name, image=IMAGE, **settings):
    stream = io.BytesIO()
    image.save(stream, format_name, **settings)
    return stream.getvalue()


def png(before=b"", after=b""):
    """Return a PNG with chunks ``before`` and ``after`` its pixels."""
    rows = b"".join(b"\0" + row.tobytes() for row in np.asarray(IMAGE))
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60, 40, 8, 2, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + after + png_chunk(b"IEND", b"")


LARGE = zlib.compress(bytes(3_000_000))
WRONG_SUM = png_chunk(b"tEXt", b"a\0b")[:-1] + b"?"
CHUNKS = {
    "large profile": png_chunk(b"iCCP", b"p\0\0" + LARGE),
    "damaged profile": png_chunk(b"iCCP", b"p\0\0" + GARBAGE),
    "empty profile": png_chunk(b"iCCP", b""),
    "large compressed comment": png_chunk(b"zTXt", b"Comment\0\0" + LARGE),
    "large international comment": png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + LARGE),
    "more text than Pillow holds": png_chunk(b"tEXt", b"a\0" + bytes(10**6)) * 80,
    "comment with a wrong checksum": WRONG_SUM,
    "private chunk with a wrong checksum": png_chunk(b"prVt", b"a")[:-1] + b"?",
    "damaged EXIF": png_chunk(b"eXIf", GARBAGE),
    "short chunks": b"".join(
        png_chunk(kind, b"") for kind in (b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tIME", b"tRNS", b"acTL", b"fcTL")
    ),
}


@pytest.mark.parametrize("kind", CHUNKS)
def test_no_metadata_of_a_png_hide_its_pixels(kind):
    for encoded in (png(before=CHUNKS[kind]), png(after=CHUNKS[kind])):
        np.testing.assert_array_equal(images.decode(encoded, "it"), IMAGE)
        assert images.size(encoded, "it") == (60, 40)


def test_a_png_cut_off_in_a_comment_after_its_pixels_is_whole():
    encoded = png(after=png_chunk(b"tEXt", b"a\0" + bytes(100)))
    np.testing.assert_array_equal(images.decode(encoded[:-40], "it"), IMAGE)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"IDAT", b"iDAT"), (b"IHDR", b"iHDR"), (b"IDAT", b"IDAX"), (struct.pack(">I", 40), struct.pack(">I", 41))],
)
def test_a_damaged_chunk_of_pixels_or_size_is_still_refused(old, new):
    with pytest.raises(images.BadImage, match=r"^it cannot be decoded as an image"):
        images.decode(png().replace(old, new, 1), "it")


def test_a_wrong_byte_among_the_pixels_of_a_png_is_still_refused():
    encoded = png(before=CHUNKS["damaged EXIF"])
    for place in range(encoded.index(b"IDAT") + 6, encoded.index(b"IEND") - 12, 97):
        with pytest.raises(images.BadImage):
            images.decode(encoded[:place] + bytes([encoded[place] ^ 0x55]) + encoded[place + 1 :], "it")


def test_the_default_image_of_a_moving_png_is_read():
    encoded = file("png", save_all=True, append_images=[IMAGE.rotate(180)], default_image=True)
    np.testing.assert_array_equal(images.decode(encoded, "it"), IMAGE)


def segment(marker, content):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


SEGMENTS = {
    "10 MB of profile": b"".join(
        segment(0xE2, b"ICC_PROFILE\0" + bytes([1 + part, 160]) + bytes(65000)) for part in range(160)
    ),
    "short profile": segment(0xE2, b"ICC_PROFILE\0"),
    "short JFIF": segment(0xE0, b"JFIF\0"),
    "short Adobe": segment(0xEE, b"Adobe\0"),
    "damaged EXIF": segment(0xE1, b"Exif\0\0" + GARBAGE),
    "damaged multi-picture": segment(0xE2, b"MPF\0" + GARBAGE),
    "damaged Photoshop": segment(0xED, b"Photoshop 3.0\0" + b"8BIM\3\xed\0\0\xff\xff\xff\xff"),
    "comments": segment(0xFE, b"\xff" * 60_000) * 40,
    "empty segments": b"".join(segment(marker, b"") for marker in range(0xE0, 0xF0)),
    "fill bytes": b"\xff" * 9,
}


@pytest.mark.parametrize("colours", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", SEGMENTS)
def test_no_metadata_of_a_jpeg_hide_or_change_its_pixels(kind, colours):
    plain = file("jpeg", IMAGE.convert(colours))
    encoded = plain[:2] + SEGMENTS[kind] + plain[2:]
    np.testing.assert_array_equal(images.decode(encoded, "it"), Image.open(io.BytesIO(plain)).convert("RGB"))
    np.testing.assert_array_equal(images.central_crop(encoded, "it", 32), images.central_crop(plain, "it", 32))


def chunk(kind, content):
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


@pytest.mark.parametrize("cut", [0, 30, 102])
@pytest.mark.parametrize("trailing", [chunk(b"EXIF", bytes(99)), chunk(b"XMP ", GARBAGE), chunk(b"junk", GARBAGE * 2)])
def test_no_metadata_of_a_webp_hide_its_pixels(trailing, cut):
    encoded = file("webp", lossless=True, icc_profile=bytes(3_000_000)) + trailing
    encoded = b"RIFF" + struct.pack("<I", len(encoded) - 8) + encoded[8:]
    np.testing.assert_array_equal(images.decode(encoded[: len(encoded) - min(cut, len(trailing))], "it"), IMAGE)


TAGS = {
    "description beyond the end": (270, 2, 5000, FAR),
    "description larger than the file": (270, 2, 2**31, FAR),
    "description that is not text": (270, 2, 4, b"\xff\xfe\xfd\0"),
    "unknown type": (270, 77, 4, b"abcd"),
    "resolution that is text": (282, 2, 4, b"abcd"),
    "profile beyond the end": (34675, 7, 3000, FAR),
    "XMP of shorts": (700, 3, 2, b"abcd"),
    "EXIF beyond the end": (34665, 4, 1, FAR),
    "least value beyond the end": (280, 3, 3, FAR),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", TAGS)
def test_no_metadata_of_a_tiff_hide_its_pixels(kind, order):
    *entry, value = TAGS[kind]
    encoded = tiff(np.asarray(IMAGE), [(*entry, value if order == "<" else value[::-1])], order)
    np.testing.assert_array_equal(images.decode(encoded, "it"), IMAGE)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"])
def test_a_tiff_of_any_compression_is_decoded_without_its_metadata(compression):
    exif = Image.Exif()
    exif[0x010E] = "description"
    encoded = file("tiff", compression=compression, exif=exif, dpi=(72, 72), software="it")
    assert b"description" in encoded
    np.testing.assert_array_equal(images.decode(encoded, "it"), Image.open(io.BytesIO(encoded)))


def test_a_tiff_that_is_cut_off_is_still_refused():
    encoded = tiff(np.asarray(IMAGE))
    for end in (6, 9, len(encoded) - 130, len(encoded) - 100):
        with pytest.raises(images.BadImage):
            images.decode(encoded[:end], "it")


@pytest.mark.parametrize("format_name", ["gif", "bmp", "ppm"])
def test_files_of_other_formats_stay_as_they_are(format_name):
    encoded = file(format_name)
    assert metadata.stripped(encoded) is encoded


def test_metadata_do_not_hide_a_bomb():
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 200_000_000, 1, 8, 2, 0, 0, 0))
    encoded = b"\x89PNG\r\n\x1a\n" + CHUNKS["large profile"] + header + png_chunk(b"IDAT", zlib.compress(b""))
    with pytest.raises(images.BadImage, match="200000000 pixels"):
        images.decode(encoded, "it")
