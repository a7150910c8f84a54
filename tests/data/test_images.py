"""Decoding and cropping, against Pillow step by step and against torchvision."""

import contextlib
import functools
import io
import pickle
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from resnet_jax.data import images
from tests.images import photo, png_chunk, tiff

SIZES = [(256, 256), (500, 375), (375, 500), (333, 500), (640, 256), (97, 61), (1, 1), (3, 300), (224, 224)]

# Torchvision's defaults.
AREAS, RATIOS = [0.08, 1.0], [3 / 4, 4 / 3]


@pytest.fixture(scope="module")
def transforms():
    return pytest.importorskip("torchvision.transforms", reason="crops are compared with torchvision's")


def file(image, format_name, **settings):
    stream = io.BytesIO()
    image.save(stream, format_name, **settings)
    return stream.getvalue()


def difference(one, other):
    return np.abs(np.asarray(one).astype(int) - np.asarray(other))


# Crops.


def resize_then_crop(image, columns, rows, left, top, side=224):
    return image.resize((columns, rows), Image.Resampling.BILINEAR).crop((left, top, left + side, top + side))


@pytest.mark.parametrize("size", SIZES)
def test_the_crop_of_the_paper_equals_resizing_and_then_cropping(size):
    image = photo(*size)
    encoded = file(image, "png")
    shorter_sides = set()
    for seed in range(5):
        random = np.random.default_rng(seed)
        got = images.train_crop(encoded, "it", "paper", np.random.default_rng(seed))
        shorter = random.integers(256, 481)
        columns, rows = (int(shorter * length / min(size)) for length in size)
        left, top = random.integers(0, columns - 223), random.integers(0, rows - 223)
        differences = difference(got, resize_then_crop(image, columns, rows, left, top))
        assert differences.max() <= 2
        assert differences.mean() < 0.3
        shorter_sides.add(shorter)
    assert len(shorter_sides) == 5


def test_the_crop_of_the_paper_takes_every_shorter_side_and_place():
    random = np.random.default_rng(0)
    boxes = np.array([images.paper_box(480, 960, 224, random) for _ in range(20_000)])
    shorter = 224 * 480 / (boxes[:, 2] - boxes[:, 0])
    np.testing.assert_allclose(shorter, shorter.round(), rtol=1e-9)
    assert set(shorter.round()) == set(range(256, 481))
    np.testing.assert_allclose(shorter.mean(), 368, atol=2)
    assert boxes[:, :2].min() == 0
    assert (boxes[:, 2:].max(0) == (480, 960)).all()
    np.testing.assert_allclose((boxes[:, :2] + boxes[:, 2:]).mean(0) / 2, (240, 480), rtol=0.01)


@pytest.mark.parametrize("size", SIZES)
def test_the_central_crop_is_that_of_torchvision(size, transforms):
    image = photo(*size)
    want = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])(image)
    got = images.central_crop(file(image, "png"), "it")
    assert difference(got, want).max() <= (0 if min(size) == 256 else 1)


def test_the_central_crop_of_a_photograph_is_that_of_torchvision(transforms):
    encoded = file(photo(500, 375), "jpeg", quality=92)
    image = Image.open(io.BytesIO(encoded))
    want = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])(image)
    assert difference(images.central_crop(encoded, "it"), want).mean() < 0.3


@pytest.mark.parametrize("size", [(500, 375), (200, 420), (64, 64)])
def test_random_resized_crops_are_distributed_as_torchvisions(size, transforms):
    torch = pytest.importorskip("torch")
    draws, random, image = 4000, np.random.default_rng(0), Image.new("L", size)
    ours = np.array([images.random_resized_box(*size, 224, random) for _ in range(draws)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = [transforms.RandomResizedCrop.get_params(image, AREAS, RATIOS) for _ in range(draws)]
    theirs = np.array([(left, top, left + columns, top + rows) for top, left, rows, columns in theirs])

    def statistics(boxes):
        width, height = (boxes[:, 2:] - boxes[:, :2]).T
        features = np.stack([width * height / np.prod(size), np.log(width / height), *boxes.T / max(size)])
        return np.concatenate([features, features**2, features[:1] * features])

    assert ours.min() >= 0
    assert (ours[:, 2:] <= size).all()
    ours, theirs = statistics(ours), statistics(theirs)
    error = np.sqrt((ours.var(1) + theirs.var(1)) / draws)
    assert (np.abs(ours.mean(1) - theirs.mean(1)) < 4.5 * error).all()


@pytest.mark.parametrize("size", [(10, 1000), (1000, 10), (1, 100), (7, 1000), (1000, 7)])
def test_an_image_that_no_random_box_fits_is_cut_as_torchvision_does(size, transforms):
    params = transforms.RandomResizedCrop.get_params(Image.new("L", size), AREAS, RATIOS)
    top, left, rows, columns = params
    box = images.random_resized_box(*size, 224, np.random.default_rng(0))
    assert box == (left, top, left + columns, top + rows)


def test_an_allowed_image_that_no_random_box_fits_is_taken_whole():
    class Greatest:
        def uniform(self, low, high):
            return high

    assert images.random_resized_box(100, 100, 224, Greatest()) == (0, 0, 100, 100)


@pytest.mark.parametrize("augmentation", images.AUGMENTATIONS)
@pytest.mark.parametrize("size", [*SIZES, (1, 5000), (5000, 1), (2, 2), (223, 1999)])
def test_every_size_of_image_gives_crops_of_one_size(augmentation, size):
    encoded = file(photo(*size), "jpeg")
    for seed in range(5):
        got = images.train_crop(encoded, "it", augmentation, np.random.default_rng(seed), side=48)
        assert (got.shape, got.dtype) == ((48, 48, 3), np.uint8)
    assert images.central_crop(encoded, "it", side=48).shape == (48, 48, 3)


@pytest.mark.parametrize("augmentation", images.AUGMENTATIONS)
def test_equal_generators_give_equal_pixels_and_others_do_not(augmentation):
    encoded = file(photo(300, 400), "jpeg")
    first, again, other = (
        images.train_crop(encoded, "it", augmentation, np.random.default_rng([7, index]), side=64)
        for index in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


# Decoding and resizing faster than Pillow does.


@pytest.fixture
def decoded(monkeypatch):
    """Return a list of the pixels that crops are then cut from."""
    seen, upper_rows = [], images.upper_rows

    def watched(*arguments):
        seen.append(upper_rows(*arguments))
        return seen[-1]

    monkeypatch.setattr(images, "upper_rows", watched)
    return seen


@pytest.mark.parametrize(("size", "scale"), [((1201, 803), 2), ((1301, 1031), 4), ((1100, 511), 1)])
def test_decoding_at_a_reduced_scale_gives_nearly_the_same_pixels(size, scale, decoded):
    encoded = file(photo(*size), "jpeg", quality=92)
    got = images.central_crop(encoded, "it")
    assert decoded[0].shape[1] == -(-size[0] // scale)
    want = images.central_crop(file(Image.fromarray(images.decode(encoded, "it")), "bmp"), "it")
    assert difference(got, want).mean() < 1


@pytest.mark.parametrize(
    ("box", "scale"),
    [
        ((0, 0, 1201, 803), 8),
        ((1.5, 2.5, 513.4, 803), 4),
        ((1.5, 2.5, 520.0, 803), 8),
        ((0, 0, 1201, 150), 2),
        ((0, 100, 150, 803), 2),
        ((0, 0, 127.9, 803), 1),
        ((0, 0, 1201, 3), 1),
    ],
)
def test_a_reduced_scale_never_leaves_fewer_pixels_than_asked_for(box, scale, decoded):
    images.crop(file(photo(1201, 803), "jpeg"), "it", box, side=64)
    assert decoded[0].shape[1] == -(-1201 // scale)


JPEGS = {
    "4:2:0": {"subsampling": "4:2:0"},
    "4:2:2": {"subsampling": "4:2:2"},
    "4:4:4": {"subsampling": "4:4:4"},
    "restarting": {"restart_marker_rows": 1},
    "progressive": {"progressive": True},
    "with EXIF": {"exif": b"Exif\0\0" + bytes(3000)},
    "with a comment": {"comment": b"\xff\xc0" * 99},
}


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize(("size", "side"), [((333, 500), 60), ((1201, 803), 60), ((501, 377), 224)])
def test_rows_below_the_crop_are_not_decoded_and_the_crop_is_the_same(size, side, kind, decoded, monkeypatch):
    encoded = file(photo(*size), "jpeg", **JPEGS[kind])
    boxes = [images.random_resized_box(*size, side, np.random.default_rng(seed)) for seed in range(20)]
    less = [images.crop(encoded, "it", box, side) for box in boxes]
    reductions = np.array([round(size[0] / pixels.shape[1]) for pixels in decoded])
    rows = reductions * [pixels.shape[0] for pixels in decoded]
    watched = images.upper_rows
    monkeypatch.setattr(images, "upper_rows", lambda encoded, rows, reduction: watched(encoded, 10**4, reduction))
    np.testing.assert_array_equal(less, [images.crop(encoded, "it", box, side) for box in boxes])
    assert all(pixels.shape[0] / pixels.shape[1] == pytest.approx(size[1] / size[0], 0.03) for pixels in decoded[20:])
    _, tops, _, bottoms = np.transpose(boxes)
    least = size[1] if kind == "progressive" else np.minimum(bottoms + (bottoms - tops) / side + 16, size[1])
    assert (rows >= least).all()
    assert (rows <= least + 1 + reductions).all()
    assert (rows.min() < size[1]) == (kind != "progressive")


@pytest.mark.parametrize("reduction", images.REDUCTIONS)
@pytest.mark.parametrize("kind", [*JPEGS, "grey"])
def test_a_jpeg_is_decoded_to_the_pixels_of_pillow(kind, reduction):
    image = photo(501, 377)
    encoded = file(image.convert("L"), "jpeg") if kind == "grey" else file(image, "jpeg", **JPEGS[kind])
    want = Image.open(io.BytesIO(encoded))
    want.draft(want.mode, (501 // reduction, 377 // reduction))
    assert difference(images.upper_rows(encoded, 377, reduction), want.convert("RGB")).max() <= 1


@pytest.mark.parametrize("kind", ["cmyk jpeg of Adobe", "png", "jpeg cut at 90%", "header of a jpeg", "empty"])
def test_what_is_no_whole_jpeg_of_common_colours_is_left_to_pillow(kind):
    assert images.upper_rows((KINDS | BAD)[kind], 10, 1) is None


@pytest.mark.parametrize("resizer", ["cykooz.resizer", "Pillow"])
@pytest.mark.parametrize(
    "box", [(0, 0, 501, 377), (100, 50, 401, 301), (3.7, 11.2, 77.3, 370.4), (250.1, 100, 263.9, 109)]
)
def test_resizing_equals_pillows(box, resizer, monkeypatch):
    if resizer == "Pillow":
        monkeypatch.setattr(images, "cykooz_resizer", None)
    elif images.cykooz_resizer is None:
        pytest.skip("cykooz.resizer is not there")
    image = photo(501, 377)
    got = images.resize(np.asarray(image), box, 96)
    differences = difference(got, image.resize((96, 96), Image.Resampling.BILINEAR, box=box))
    assert differences.max() <= (0 if resizer == "Pillow" else 2)
    assert differences.mean() < 0.25


def test_a_file_that_is_cut_off_below_the_crop_is_bad():
    encoded = file(photo(500, 375), "jpeg")
    with pytest.raises(images.BadImage, match="truncated"):
        images.crop(encoded[: len(encoded) * 9 // 10], "it", (0, 0, 300, 100), 64)


# Kinds of files.


def deep_png():
    """Return a colour PNG of 16 bits a channel, which Pillow does not write."""
    pixels = np.random.default_rng(0).integers(0, 2**16, (12, 10, 3)).astype(">u2")
    header = struct.pack(">IIBBBBB", 10, 12, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def without_segment(jpeg, marker):
    """Return ``jpeg`` without its segment ``marker``, which there must be."""
    start = jpeg.index(b"\xff" + bytes([marker]))
    return jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big") :]


def with_corrupt_exif(jpeg):
    """Return ``jpeg`` with an EXIF segment whose only entry is beyond its end."""
    tiff = b"Exif\0\0II*\0" + struct.pack("<IHHHII", 8, 1, 0x010E, 2, 4000, 900)
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(tiff) + 2) + tiff + without_segment(jpeg, 0xE0)[2:]


def rotated(image):
    exif = Image.Exif()
    exif[0x0112] = 6  # To be shown turned by 90 degrees.
    return file(image, "jpeg", exif=exif)


def kinds():
    image = photo(30, 20)
    grey, alpha, palette = image.convert("L"), image.convert("RGBA"), image.convert("P")
    alpha.putalpha(grey)
    cmyk = file(image.convert("CMYK"), "jpeg")
    return {
        "jpeg": file(image, "jpeg"),
        "progressive jpeg": file(image, "jpeg", progressive=True),
        "grey jpeg": file(grey, "jpeg"),
        "jpeg of RGB": file(image, "jpeg", keep_rgb=True),
        "cmyk jpeg of Adobe": cmyk,
        "cmyk jpeg of others": without_segment(cmyk, 0xEE),
        "rotated jpeg": rotated(image),
        "jpeg with corrupt EXIF": with_corrupt_exif(file(image, "jpeg")),
        "jpeg with trailing bytes": file(image, "jpeg") + b"more",
        "two jpegs in one": file(image, "mpo", save_all=True, append_images=[image]),
        "png": file(image, "png"),
        "grey png": file(grey, "png"),
        "png of one bit": file(image.convert("1"), "png"),
        "grey png with alpha": file(grey.convert("LA"), "png"),
        "png with alpha": file(alpha, "png"),
        "png with a transparent colour": file(image, "png", transparency=(1, 2, 3)),
        "palette png": file(palette, "png"),
        "palette png with a transparent colour": file(palette, "png", transparency=3),
        "palette png with transparencies": file(palette, "png", transparency=bytes(range(200))),
        "png of 16 bits": deep_png(),
        "webp": file(image, "webp"),
        "webp with alpha": file(alpha, "webp"),
        "gif": file(image, "gif"),
        "moving gif": file(palette, "gif", save_all=True, append_images=[palette.rotate(180)]),
        "bmp": file(image, "bmp"),
        "ppm": file(image, "ppm"),
        "tiff": file(image, "tiff"),
        "cmyk tiff": file(image.convert("CMYK"), "tiff"),
    }


KINDS = kinds()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_any_kind_is_decoded_as_by_an_image_folder_of_torchvision(kind):
    with warnings.catch_warnings(action="ignore"):
        image = Image.open(io.BytesIO(KINDS[kind])).convert("RGB")
    whole = images.decode(KINDS[kind], "it")
    np.testing.assert_array_equal(whole, image)
    assert (whole.shape, whole.dtype) == ((image.height, image.width, 3), np.uint8)
    want = images.central_crop(file(image, "png"), "it", side=16)
    np.testing.assert_array_equal(images.central_crop(KINDS[kind], "it", side=16), want)


def test_colours_survive_every_kind_of_file():
    for kind, encoded in KINDS.items():
        if not any(word in kind for word in ("grey", "16 bits", "one bit")):
            # JPEG and WebP keep a fourth of the colours, palettes 216 of them.
            assert difference(images.decode(encoded, kind), photo(30, 20)).mean() < 25, kind


def test_loading_equals_torchvisions_loader(transforms, tmp_path):
    from torchvision.datasets.folder import pil_loader

    path = tmp_path / "cmyk.JPEG"
    path.write_bytes(KINDS["cmyk jpeg of others"])
    np.testing.assert_array_equal(images.decode(path.read_bytes(), str(path)), pil_loader(path))


@pytest.mark.parametrize("kind", ["jpeg with corrupt EXIF", "palette png with transparencies"])
def test_what_pillow_warns_of_is_not_heard_in_any_thread(kind):
    with pytest.warns(UserWarning, match="EXIF|Tag data|Truncated File|Transparency"):
        Image.open(io.BytesIO(KINDS[kind])).convert("RGB")
    with warnings.catch_warnings(record=True, action="always") as heard, ThreadPoolExecutor(8) as pool:
        list(pool.map(images.decode, [KINDS[kind]] * 64, ["it"] * 64))
    assert heard == []


# Grey of more than 8 bits.

# A ramp from black to white, and its levels in 8 bits.
DEEP = np.linspace(0, 65535, 600).round().astype(np.uint16).reshape(20, 30)
LEVELS = DEEP / 257
SHARES = (DEEP / 65535).astype(np.float32)
WHITE_IS_ZERO = (262, 3, 1, bytes(4))


def deflated(pixels, order):
    """Return ``pixels`` as a compressed TIFF."""
    content = zlib.compress(pixels.astype(pixels.dtype.newbyteorder(order)).tobytes())
    long = functools.partial(struct.pack, f"{order}I")
    compression = (259, 3, 1, struct.pack(f"{order}HH", 8, 0))
    tags = [compression, (279, 4, 1, long(len(content)))]
    return tiff(pixels, [*tags, (273, 4, 1, long(len(tiff(pixels, tags))))], order) + content


def twelve_bits(pixels):
    """Return ``pixels`` below 4096 as a TIFF of 12 bits a pixel, two pixels in three bytes."""
    first, second = pixels[:, ::2], pixels[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8)
    tags = [(256, 3, 1, struct.pack("<HH", pixels.shape[1], 0)), (258, 3, 1, struct.pack("<HH", 12, 0))]
    return tiff(packed.reshape(len(pixels), -1), tags)


GREYS = {
    "png": file(Image.fromarray(DEEP), "png"),
    "pgm": b"P5\n30 20\n65535\n" + DEEP.astype(">u2").tobytes(),
    "pgm of 10 bits": b"P5\n30 20\n1023\n" + (DEEP >> 6).astype(">u2").tobytes(),
    "plain pgm": b"P2\n30 20\n65535\n" + " ".join(map(str, DEEP.flat)).encode(),
    "tiff": tiff(DEEP),
    "big-endian tiff": tiff(DEEP, order=">"),
    "compressed tiff": deflated(DEEP, "<"),
    "compressed big-endian tiff": deflated(DEEP, ">"),
    "tiff of 12 bits": twelve_bits(DEEP >> 4),
    "tiff whose white is zero": tiff(65535 - DEEP, [WHITE_IS_ZERO]),
    "tiff of floats": tiff(SHARES),
    "big-endian tiff of floats": tiff(SHARES, order=">"),
    "tiff of floats whose white is zero": tiff(1 - SHARES, [WHITE_IS_ZERO]),
    "pfm": b"Pf\n30 20\n-1.0\n" + SHARES[::-1].astype("<f4").tobytes(),
}


@pytest.mark.parametrize("kind", GREYS)
def test_grey_of_more_than_8_bits_keeps_its_brightness(kind):
    grey = images.decode(GREYS[kind], "it")
    assert (grey.shape, grey.dtype) == ((20, 30, 3), np.uint8)
    np.testing.assert_array_equal(grey, grey[..., :1].repeat(3, -1))
    tolerance = 0.51 if not any(word in kind for word in ("10 bits", "12 bits")) else 0.8
    np.testing.assert_allclose(grey[..., 0], LEVELS, rtol=0, atol=tolerance)
    assert (grey.min(), grey.max()) == (0, 255)
    want = images.central_crop(file(Image.fromarray(grey), "png"), "it", side=16)
    np.testing.assert_array_equal(images.central_crop(GREYS[kind], "it", side=16), want)


def test_16_bits_that_were_8_are_the_8_bits():
    for levels in (np.arange(256, dtype=np.uint16)[None], np.arange(256, dtype=np.uint16)[::-1][None]):
        for encoded in (tiff(levels * 257), file(Image.fromarray(levels * 257), "png")):
            np.testing.assert_array_equal(images.decode(encoded, "it")[..., 1], levels)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (LEVELS.astype(np.float32), r"floats from 0 to 255, not from 0 to 1; scale them or convert it to 8 or 16 bits"),
        (SHARES - np.float32(0.5), r"floats from -0\.5 to 0\.5"),
        (np.where(SHARES == 1, np.nan, SHARES), r"floats from nan to nan"),
        (np.where(SHARES == 1, np.inf, SHARES), r"floats from 0 to inf"),
        (DEEP.astype(np.uint32), r"32-bit integers|Pillow does not read"),
        (DEEP.astype(np.int32), r"signed integers; convert it to 8 or 16 unsigned bits"),
        ((DEEP // 2).astype(np.int16), r"signed integers"),
        ((DEEP // 512).astype(np.int8), r"signed integers"),
        (SHARES.astype(np.float64), r"Pillow does not read"),
        (SHARES.astype(np.float16), r"Pillow does not read"),
    ],
    ids=["0..255", "negative", "NaN", "infinite", "uint32", "int32", "int16", "int8", "float64", "float16"],
)
def test_pixels_without_a_defined_brightness_are_refused_by_name(pixels, reason, order):
    for read in (images.decode, images.central_crop):
        with pytest.raises(images.BadImage, match=rf"^a/b\.tif cannot be decoded as an image \(.*({reason}).*\)\.$"):
            read(tiff(pixels, order=order), "a/b.tif")


@pytest.mark.parametrize("order", ["<", ">"])
def test_colours_of_16_bits_in_planes_are_refused_and_of_8_bits_read(order):
    for dtype in (np.uint8, np.uint16):
        colours = np.stack([DEEP, DEEP[::-1], DEEP // 2]) >> (16 - 8 * np.dtype(dtype).itemsize)
        planes = colours.reshape(-1, 30).astype(dtype)
        short, long = functools.partial(struct.pack, f"{order}HH"), functools.partial(struct.pack, f"{order}I")
        tags = [(257, 3, 1, short(20, 0)), (262, 3, 1, short(2, 0)), (277, 3, 1, short(3, 0)), (284, 3, 1, short(2, 0))]
        tags += [(339, 3, 1, short(1, 0)), (278, 3, 1, short(20, 0))]
        places = [long(8 + plane * colours[0].size * planes.itemsize) for plane in range(3)]
        at_end = long(len(tiff(planes, [*tags, (273, 4, 3, bytes(4))], order)))
        encoded = tiff(planes, [*tags, (273, 4, 3, at_end)], order) + b"".join(places)
        if dtype == np.uint8:
            np.testing.assert_array_equal(images.decode(encoded, "it"), np.moveaxis(colours, 0, -1))
        else:
            with pytest.raises(images.BadImage, match=r"separate planes of 16 bits; convert it to 8 bits or compress"):
                images.decode(encoded, "it")


# Files that are not images.


def bomb(pixels):
    """Return a PNG of only the header, which claims ``pixels`` in a row."""
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", pixels, 1, 8, 2, 0, 0, 0))


BAD = {
    "empty": b"",
    "text": b"<html><body>404 Not Found</body></html>\n" * 9,
    "zeros": bytes(3000),
    "noise": np.random.default_rng(0).bytes(3000),
    "a program for printers": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    "bomb": bomb(200_000_000),
    "header of a jpeg": KINDS["jpeg"][:20],
    **{
        f"{kind} cut at {percent}%": KINDS[kind][: len(KINDS[kind]) * percent // 100]
        for kind in ("jpeg", "progressive jpeg", "cmyk jpeg of Adobe", "png", "webp", "bmp", "ppm", "tiff")
        for percent in (50, 90)
    },
    "gif cut at 50%": KINDS["gif"][: len(KINDS["gif"]) // 2],
    "png with a wrong byte": KINDS["png"][:60] + b"\xff\xff" + KINDS["png"][62:],
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_no_image_is_reported_in_one_sentence_that_names_it(kind):
    for read in (
        lambda: images.decode(BAD[kind], "a/b.jpg"),
        lambda: images.central_crop(BAD[kind], "a/b.jpg", side=8),
        lambda: images.train_crop(BAD[kind], "a/b.jpg", "paper", np.random.default_rng(0), side=8),
    ):
        with pytest.raises(
            images.BadImage, match=r"^a/b\.jpg (is empty|cannot be decoded as an image \(.+\))\.$"
        ) as raised:
            read()
        assert "\n" not in str(raised.value)
        assert "object at 0x" not in str(raised.value)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_a_bomb_is_an_image_of_more_than_twice_the_pixels_that_pillow_warns_of(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert images.decode(KINDS["png"], "it").shape == (20, 30, 3)
    assert images.central_crop(KINDS["jpeg"], "it", 8).shape == (8, 8, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 299)
    for kind in ("png", "jpeg"):
        with pytest.raises(images.BadImage, match=r"^it cannot be decoded .*600 pixels"):
            images.decode(KINDS[kind], "it")
        with pytest.raises(images.BadImage, match=r"^it cannot be decoded .*600 pixels"):
            images.central_crop(KINDS[kind], "it", 8)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "tiff", "two jpegs in one", "jpeg with corrupt EXIF"])
def test_whatever_byte_is_wrong_nothing_but_bad_image_is_raised(kind):
    random = np.random.default_rng(0)
    encoded = KINDS[kind]
    for position in range(0, len(encoded), 1 + len(encoded) // 400):
        damaged = bytearray(encoded)
        damaged[position] = random.integers(256)
        for changed in (bytes(damaged), encoded[:position]):
            with contextlib.suppress(images.BadImage):
                assert images.central_crop(changed, "it", side=8).shape == (8, 8, 3)


def test_want_of_memory_is_not_laid_on_the_file(monkeypatch):
    def load(self):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", load)
    with pytest.raises(MemoryError):
        images.decode(KINDS["jpeg"], "it")
