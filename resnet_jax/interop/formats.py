"""Formats of weights files, recognised by content: the two readable ones, and others that users may have."""

import enum
import os
import pathlib
import zipfile

from resnet_jax.errors import UserError


class Format(enum.Enum):
    """Readable formats."""

    SAFETENSORS = enum.auto()
    PYTORCH = enum.auto()


# First bytes of torch.save's older files, which are not zip archives: a pickled magic number.
OLDER_PYTORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
AGAIN = "download or copy it again"
UNPACK = "unpack it and give the weights file in it"
CONVERT = "convert it to PyTorch's names and save it as safetensors, see docs/weights.md"
# Other formats: offset of the mark, mark, description and way out.
MARKS = (
    (
        0,
        b"version https://git-lfs",
        "a Git LFS pointer, not the weights",
        "run git lfs pull, or download the file itself",
    ),
    (0, b"\x1f\x8b", "compressed by gzip", UNPACK),
    (0, b"BZh", "compressed by bzip2", UNPACK),
    (0, b"\xfd7zXZ\0", "compressed by xz", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (0, b"Rar!", "a RAR archive", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes", CONVERT),
    (0, b"\x93NUMPY", "a NumPy array", CONVERT),
    (0, b"GGUF", "a GGUF file", CONVERT),
    (4, b"TFL3", "a TensorFlow Lite file", CONVERT),
)
# Formats without a mark.
SUFFIXES = {
    ".onnx": "an ONNX model",
    ".pb": "a TensorFlow graph",
    ".index": "a part of a TensorFlow checkpoint",
    ".meta": "a part of a TensorFlow checkpoint",
    ".msgpack": "a msgpack file, as Flax writes",
    ".caffemodel": "a Caffe model",
    ".h5": "an HDF5 file, as Keras writes",
}
TENSORFLOW_INDEX = bytes.fromhex("57fb808b247547db")  # The end of the .index file of a checkpoint.


def format_of(path: pathlib.Path) -> Format:
    """Return the format of the file ``path``; its suffix decides only where the content does not.

    Raises:
      UserError: the file does not exist, cannot be read, is incomplete, or has another format.
    """
    try:
        if not path.is_file():
            raise UserError(missing(path))
        with path.open("rb") as file:
            start = file.read(4096)
            file.seek(-min(8, path.stat().st_size), os.SEEK_END)
            end = file.read(8)
    except (OSError, ValueError) as error:  # ValueError: the path has a NUL.
        raise UserError(f"{path} cannot be read ({getattr(error, 'strerror', error)}); give another file.") from error
    if start[5:9] == b"\0\0\0{":  # The length of a header, then the header. Lengths can look like other marks.
        return Format.SAFETENSORS
    if start.startswith(b"PK\x03\x04"):
        check_archive(path)
        return Format.PYTORCH
    if OLDER_PYTORCH in start[:64]:
        return Format.PYTORCH
    other = other_format(path.name.lower(), start, end)
    if other:
        raise UserError(f"{path} is {other[0]}; {other[1]}.")
    if path.suffix.lower() == ".safetensors":
        return Format.SAFETENSORS
    raise UserError(
        f"{path} is of no known format, or damaged; give a safetensors file or one that torch.save(net.state_dict(), "
        "FILE) wrote."
    )


def missing(path: pathlib.Path) -> str:
    """Return the error message for ``path``, which is not a file."""
    if path.is_dir():
        return f"{path} is a folder, not a file; give the weights file in it, like {path / 'weights.safetensors'}."
    if path.with_name(f"{path.name}.index").is_file():
        return f"{path} is a TensorFlow checkpoint; {CONVERT}."
    return f"{path} is not a file; use a weights file like weights.safetensors."


def check_archive(path: pathlib.Path) -> None:
    """Raise a UserError unless the zip archive ``path`` is one of ``torch.save``."""
    try:
        with zipfile.ZipFile(path) as archive:
            names, damaged = archive.namelist(), archive.testzip()  # PyTorch does not compare checksums.
    except Exception as error:  # zipfile raises nearly anything on damaged files.
        raise UserError(
            f"{path} is not a complete file: it begins as one of torch.save, but is cut off or damaged; {AGAIN}."
        ) from error
    members = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in members:
        what, way_out = "a TorchScript program", "save the net's state_dict: torch.save(net.state_dict(), FILE)"
    elif "data.pkl" in members:
        if damaged:
            raise UserError(f"{path} is not a complete file: {damaged} in it has another checksum; {AGAIN}.")
        return
    elif any(name.endswith(".npy") for name in members):
        what, way_out = "an archive of NumPy arrays (.npz)", CONVERT
    elif "model.weights.h5" in members:
        what, way_out = "a Keras model", CONVERT
    else:
        what, way_out = "a zip archive that torch.save did not write", UNPACK
    raise UserError(f"{path} is {what}; {way_out}.")


def other_format(name: str, start: bytes, end: bytes) -> tuple[str, str] | None:
    """Return the description of an unreadable format and a way out; None for an unknown format.

    Args:
      name: name of the file, in lower case.
      start: first bytes.
      end: last 8 bytes.
    """
    if not start:
        return "empty", AGAIN
    for offset, mark, what, way_out in MARKS:
        if start[offset:].startswith(mark):
            return what, way_out
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page, not the weights", "download the file that the page links to"
    if end == TENSORFLOW_INDEX or ".data-0" in name or text.startswith(b"model_checkpoint_path"):
        return "a part of a TensorFlow checkpoint", CONVERT
    if is_onnx(start):
        return "an ONNX model", CONVERT
    for suffix, what in SUFFIXES.items():
        if name.endswith(suffix):
            return what, CONVERT
    if start[:1] == b"\x80" and start[1:2] <= b"\x05":
        return (
            "a Python pickle that torch.save did not write, which could execute code",
            "save the net's tensors with torch.save(net.state_dict(), FILE)",
        )
    if is_text(start):
        if b'"weight_map"' in text:
            return "a list of the files that hold the weights", "join them in one safetensors file"
        return "a text file, not the weights", "download the weights file itself"
    return None


def is_onnx(start: bytes) -> bool:
    """Return whether ``start`` begins as an ONNX model: a version, then the name of the program that wrote it."""
    if start[0] != 0x08 or start[2:3] != b"\x12":
        return False
    producer = start[4 : 4 + start[3]] if len(start) > 4 else b""
    return bool(producer) and producer.isascii() and producer.decode().isprintable()


def is_text(start: bytes) -> bool:
    """Return whether ``start`` is printable text in UTF-8, perhaps cut within a character."""
    text = start.decode(errors="replace").rstrip("\ufffd")
    return "\ufffd" not in text and all(letter.isprintable() or letter.isspace() for letter in text) and bool(text)
