"""Formats recognised by content: two are read under any name, the others are refused by name."""

import bz2
import gzip
import io
import json
import lzma
import pathlib
import tarfile
import zipfile

import numpy as np
import pytest

from resnet_jax import interop
from resnet_jax.errors import UserError

TENSORS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float32)}
NAMES = ("w.safetensors", "w.pth", "w.pth.tar", "w.PTH", "w.ckpt", "w.th", "w.bin", "w.h5", "w")


def archive(**members):
    """Return a zip archive of ``members``."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, content in members.items():
            made.writestr(name.replace("__", "/"), content)
    return file.getvalue()


def tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        made.addfile(tarfile.TarInfo("w.pth"))
    return file.getvalue()


def saved(write):
    """Return the bytes that ``write`` writes to a file."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_safetensors_are_read_under_any_name(tmp_path, name):
    interop.write(tmp_path / name, TENSORS, {})
    assert interop.read(tmp_path / name)[0].keys() == TENSORS.keys()


@pytest.mark.parametrize("mark", [b"\x1f\x8b\0", b"BZh", b"Rar", b"\x80\x02\0"])
def test_a_header_whose_length_looks_like_another_format_is_read(tmp_path, mark):
    header = json.dumps({"a.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    length = int.from_bytes(mark, "little")
    (tmp_path / "w.pth").write_bytes(length.to_bytes(8, "little") + header.ljust(length) + bytes(4))
    assert interop.read(tmp_path / "w.pth")[0]["a.weight"].tolist() == [0]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_files_of_pytorch_are_read_under_any_name(tmp_path, name, zipped):
    torch = pytest.importorskip("torch", reason="needs PyTorch; make .venv/peer installs it")
    tensors = {name: torch.from_numpy(tensor) for name, tensor in TENSORS.items()}
    torch.save(tensors, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert interop.read(tmp_path / name)[0].keys() == TENSORS.keys()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1100000\n"
OTHERS = {
    "empty": (b"", "is empty; download or copy it again."),
    "pointer": (POINTER, "is a Git LFS pointer, not the weights; run git lfs pull"),
    "page": (b"\n<!DOCTYPE html><html><title>Virus scan warning</title>", "is a web page, not the weights; download"),
    "page with a mark": (b"\xef\xbb\xbf<HTML>", "is a web page"),
    "gzip": (gzip.compress(b"x"), "is compressed by gzip; unpack it"),
    "bzip2": (bz2.compress(b"x"), "is compressed by bzip2; unpack it"),
    "xz": (lzma.compress(b"x"), "is compressed by xz; unpack it"),
    "tar": (tar(), "is a tar archive; unpack it"),
    "npz": (saved(lambda file: np.savez(file, a=np.zeros(2))), "is an archive of NumPy arrays (.npz); convert it"),
    "npy": (saved(lambda file: np.save(file, np.zeros(2))), "is a NumPy array; convert it"),
    "zip": (archive(readme="x"), "is a zip archive that torch.save did not write; unpack it"),
    "torchscript": (
        archive(net__data__pkl="", **{"net/data.pkl": "", "net/constants.pkl": ""}),
        "is a TorchScript prog",
    ),
    "keras": (archive(**{"config.json": "", "model.weights.h5": ""}), "is a Keras model; convert it"),
    "cut": (
        archive(data="x" * 100)[:60],
        "is not a complete file: it begins as one of torch.save, but is cut off or d",
    ),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(20), "is an HDF5 file, as Keras writes; convert it"),
    "index": (bytes(40) + bytes.fromhex("57fb808b247547db"), "is a part of a TensorFlow checkpoint; convert it"),
    "checkpoint": (b'model_checkpoint_path: "model.ckpt-1"\n', "is a part of a TensorFlow checkpoint"),
    "onnx": (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:", "is an ONNX model; convert it"),
    "pickle": (
        b"\x80\x04\x95\x0b\0\0\0\0\0\0\0}\x94\x8c\x01a\x94K\x01s.",
        "is a Python pickle that torch.save did not write",
    ),
    "json": (b'{"error": "not found"}', "is a text file, not the weights"),
    "list": (
        b'{"weight_map": {"conv1.weight": "model-1.safetensors"}}',
        "is a list of the files that hold the weights",
    ),
    "text": ("no tensors, \u00e9".encode(), "is a text file, not the weights; download the weights file itself."),
    "cut text": (("x" * 4095 + "\u00e9").encode(), "is a text file"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ""])
@pytest.mark.parametrize("kind", OTHERS)
def test_other_files_are_named_with_a_way_out(tmp_path, kind, suffix):
    content, message = OTHERS[kind]
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        interop.read(path)
    assert str(caught.value).startswith(f"{path} {message}")
    assert "\n" not in str(caught.value)


def test_formats_without_a_mark_are_recognised_by_name(tmp_path):
    for name, what in {
        "net.onnx": "an ONNX model",
        "net.pb": "a TensorFlow graph",
        "model.ckpt-1.meta": "a part of a TensorFlow checkpoint",
        "model.ckpt-1.data-00000-of-00001": "a part of a TensorFlow checkpoint",
        "net.msgpack": "a msgpack file, as Flax writes",
    }.items():
        (tmp_path / name).write_bytes(b"\xfe" * 100)
        with pytest.raises(UserError, match=rf"{name} is {what}; convert it to PyTorch's names"):
            interop.read(tmp_path / name)


def test_bytes_of_no_format_are_refused(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match=r"w\.pth is of no known format, or damaged; give a safetensors file"):
        interop.read(tmp_path / "w.pth")


def test_paths_that_are_not_files_are_refused(tmp_path):
    (tmp_path / "model.ckpt.index").write_bytes(b"x")
    for path, message in {
        tmp_path / "no.safetensors": "is not a file; use a weights file like weights.safetensors.",
        tmp_path: "is a folder, not a file; give the weights file in it",
        tmp_path / "model.ckpt": "is a TensorFlow checkpoint; convert it",
        tmp_path / ("x" * 300): "cannot be read (File name too long)",
        pathlib.Path("/dev/zero"): "is not a file",
    }.items():
        with pytest.raises(UserError) as caught:
            interop.read(path)
        assert str(caught.value).startswith(f"{path} {message}")
