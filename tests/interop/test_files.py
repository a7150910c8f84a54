"""Files of tensors: readable ones and refused ones."""

import argparse
import collections
import json
import logging
import pathlib
import struct
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.flax

from resnet_jax import interop
from resnet_jax.errors import UserError

TENSORS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float32)}


def assert_tensors(found):
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], tensor)


def test_written_tensors_are_read(tmp_path):
    interop.write(tmp_path / "w.safetensors", TENSORS, {"key": "value"})
    tensors, metadata = interop.read(tmp_path / "w.safetensors")
    assert_tensors(tensors)
    assert metadata == {"key": "value", "format": "pt"}
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_weights_are_not_written_through_a_link(tmp_path):
    (tmp_path / "mine").write_text("mine")
    for name in ("w.safetensors", "w.safetensors.partial"):
        (tmp_path / name).symlink_to(tmp_path / "mine")
    interop.write(tmp_path / "w.safetensors", TENSORS, {})
    assert interop.read(tmp_path / "w.safetensors")[0].keys() == TENSORS.keys()
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_and_counters_of_batches(tmp_path, dtype):
    counter = {"bn.num_batches_tracked": jnp.zeros((), jnp.int32)}
    tensors = {name: jnp.asarray(tensor, dtype) for name, tensor in TENSORS.items()}
    safetensors.flax.save_file(tensors | counter, tmp_path / "w.safetensors")
    assert_tensors(interop.read(tmp_path / "w.safetensors")[0])


@pytest.fixture
def torch():
    """Return PyTorch, if it is installed."""
    return pytest.importorskip("torch", reason="needs PyTorch; make .venv/peer installs it")


def test_files_of_pytorch(tmp_path, torch):
    tensors = {name: torch.from_numpy(tensor) for name, tensor in TENSORS.items()}
    parallel = {f"module.{name}": tensor for name, tensor in tensors.items()} | {"module.bn.num_batches_tracked": 0}
    parallel["module.bn.num_batches_tracked"] = torch.tensor(3)
    contents = {
        "plain.pth": tensors,
        "half.pt": {name: tensor.bfloat16() for name, tensor in tensors.items()},
        "parameters.bin": {name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()},
        "nested.th": {"epoch": 3, "best": 8.1, "state_dict": parallel},
    }
    for name, content in contents.items():
        torch.save(content, tmp_path / name)
        assert_tensors(interop.read(tmp_path / name)[0])


def test_without_pytorch_its_files_are_refused_and_safetensors_read(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "w.pth").write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
    with pytest.raises(UserError, match=r"w\.pth needs PyTorch to be read; pip install torch, or use a safeten"):
        interop.read(tmp_path / "w.pth")
    interop.write(tmp_path / "w.safetensors", TENSORS, {})
    assert_tensors(interop.read(tmp_path / "w.safetensors")[0])


def test_a_pytorch_whose_safe_loading_is_not_safe_reads_nothing(tmp_path, monkeypatch, torch):
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "w.pth")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu124")
    with pytest.raises(
        UserError, match=r"w\.pth needs PyTorch 2\.6 or newer to be read, because 2\.5\.1\+cu124 can be"
    ):
        interop.read(tmp_path / "w.pth")


class Evil:
    """Unpickling this would run code."""

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("executed"),)


def test_code_in_a_file_of_pytorch_is_not_executed(tmp_path, monkeypatch, torch):
    monkeypatch.chdir(tmp_path)
    for content in ({"a": Evil()}, {"state_dict": {"conv1.weight": torch.zeros(1)}, "args": Evil()}):
        torch.save(content, "w.pth")
        with pytest.raises(UserError, match=r"w\.pth is not a complete file of tensors only .* nothing was loaded"):
            interop.read(pathlib.Path("w.pth"))
        assert not pathlib.Path("executed").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_options_next_to_the_tensors_are_ignored(tmp_path, torch, zipped):
    """Their objects are not even made, and PyTorch allows no more than before afterwards."""
    allowed = set(torch.serialization.get_safe_globals())
    options = {
        "args": argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("runs"), more=types.SimpleNamespace(a=1)),
        "best": np.float64(91.7),
        "history": np.arange(3.0),
    }
    tensors = {name: torch.from_numpy(tensor) for name, tensor in TENSORS.items()}
    torch.save({"state_dict": tensors} | options, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert_tensors(interop.read(tmp_path / "w.pth")[0])
    assert set(torch.serialization.get_safe_globals()) == allowed


def test_a_changed_byte_of_a_tensor_is_noticed(tmp_path, torch):
    """PyTorch itself loads such a file."""
    path = tmp_path / "w.pth"
    torch.save({"a.weight": torch.ones(64, 64)}, path)
    content = path.read_bytes()
    path.write_bytes(content.replace(np.ones(9, np.float32).tobytes(), np.full(9, 3, np.float32).tobytes(), 1))
    with pytest.raises(UserError, match=r"w\.pth is not a complete file: \S+ in it has another checksum; download or"):
        interop.read(path)


def refusals(tmp_path, torch):
    """Yield files that PyTorch refuses, or advises to load with code."""
    tensors = {"conv1.weight": torch.zeros(2)}
    contents = {
        "whole_net": torch.nn.Linear(2, 2),
        "code": {"state_dict": tensors, "x": Evil()},
        "function": {"state_dict": tensors, "x": print},
        "dictionary_class": {"state_dict": tensors, "x": collections.defaultdict(list)},
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.pth"
        torch.save(content, path)
        yield path
    path = tmp_path / "protocol.pth"
    torch.save(tensors, path, pickle_protocol=4)
    yield path
    whole = (tmp_path / "code.pth").read_bytes()
    for name, content in {
        "cut": whole[:-30],
        "half": whole[:300],
        "flipped": whole[:100] + b"\xff" * 40 + whole[140:],
    }.items():
        path = tmp_path / f"{name}.pth"
        path.write_bytes(content)
        yield path


def test_the_advice_of_pytorch_to_execute_a_file_is_not_passed_on(tmp_path, torch):
    for path in refusals(tmp_path, torch):
        with pytest.raises(UserError, match=rf"{path.name} is not a complete file") as caught:
            interop.read(path)
        chain, error = [], caught.value
        while error is not None:
            chain.append(str(error))
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        assert not any("weights_only" in text or "safe_globals" in text or "trust" in text for text in chain)
        assert "\n" not in chain[0]


@pytest.mark.parametrize(
    ("tensor", "type_"),
    [("int8", "int8"), ("complex64", "complex64"), ("bool", "bool"), ("float8_e5m2", "float8_e5m2")],
)
def test_tensors_of_pytorch_that_are_not_of_floats_are_refused_by_name(tmp_path, torch, tensor, type_):
    torch.save({"conv1.weight": torch.zeros(2).to(getattr(torch, tensor))}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=rf"w\.pth: tensor conv1\.weight is of type {type_}; save it as float16"):
        interop.read(tmp_path / "w.pth")


def test_tensors_without_all_their_values_are_refused_by_name(tmp_path, torch):
    tensors = {
        "sparse": torch.eye(2).to_sparse(),
        "meta": torch.empty(2, 2, device="meta"),
        "repeated": torch.zeros(1).expand(10**6, 10**6),  # 4 TB from 4 bytes.
    }
    for name, tensor in tensors.items():
        torch.save({f"{name}.weight": tensor}, tmp_path / "w.pth")
        with pytest.raises(UserError, match=rf"w\.pth: tensor {name}\.weight is not an ordinary one with all its val"):
            interop.read(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [b"\0", b"\xff" * 100, struct.pack("<Q", 100) + b"{"])
def test_damaged_safetensors_are_refused(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"w\.safetensors is not a complete safetensors file"):
        interop.read(tmp_path / "w.safetensors")


def of_header(tmp_path, header, data=bytes(16), length=None):
    """Return a safetensors file with ``header`` and ``data``."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(content) if length is None else length) + content + data)
    return path


def entry(**fields):
    return {"a.weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | fields}


def test_the_headers_below_are_sound_but_for_their_fault(tmp_path):
    assert interop.read(of_header(tmp_path, entry()))[0]["a.weight"].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("header", "data", "length"),
    [
        (entry(data_offsets=[-4, 12]), 16, None),
        (entry(data_offsets=[4, 20]), 20, None),
        (entry(data_offsets=[16, 0]), 16, None),
        (entry() | {"b.weight": entry()["a.weight"]}, 16, None),
        (entry(), 16, 2**63),
        (entry(), 16, 2**40),
        (entry(), 16, 3),
        (entry(), 8, None),
        (entry(), 24, None),
        (entry(dtype="F33"), 16, None),
        (entry(dtype=32), 16, None),
        (entry(shape=[5]), 16, None),
        (entry(shape=[-4]), 16, None),
        (entry(shape=[4.0]), 16, None),
        (entry(shape=[float("nan")]), 16, None),
        (entry(shape=[2**62, 2**62]), 16, None),
        (entry(shape="4"), 16, None),
        ({"a.weight": {"shape": [4]}}, 16, None),
        ({"a.weight": entry()}, 16, None),
        (entry() | {"__metadata__": {"step": 3}}, 16, None),
        (entry() | {"__metadata__": ["step"]}, 16, None),
        (b"{not json}", 16, None),
        (b"[]", 16, None),
        (b"null", 16, None),
        (b"", 0, None),
        (json.dumps(entry()).replace("a.w", "\xff").encode("latin-1"), 16, None),
        (b'{"a":' * 10**5, 16, None),
        (b'{"a.weight":' + b"[" * 10**5, 16, None),
    ],
    ids=lambda value: str(value)[:50],
)
def test_malformed_headers_are_refused_with_a_message(tmp_path, header, data, length):
    path = of_header(tmp_path, header, bytes(data), length)
    with pytest.raises(UserError, match=r"^\S+w\.safetensors is not a complete safetensors file \(.*\); .* again\.$"):
        interop.read(path)


@pytest.mark.parametrize(("dtype", "shape"), [("I64", [2]), ("BOOL", [16]), ("F8_E4M3", [16]), ("U8", [16])])
def test_tensors_of_safetensors_that_are_not_of_floats_are_refused_by_name(tmp_path, dtype, shape):
    path = of_header(tmp_path, entry(dtype=dtype, shape=shape))
    with pytest.raises(
        UserError, match=rf"w\.safetensors: tensor a\.weight is of type {dtype}; save it as float16, bfl"
    ):
        interop.read(path)


def test_double_precision_is_rounded_with_a_log_message(tmp_path, caplog):
    content = {"a.weight": np.array([[1 / 3, 1e300]])}
    interop.write(tmp_path / "w.safetensors", content, {})
    with caplog.at_level(logging.INFO):
        tensors, _ = interop.read(tmp_path / "w.safetensors")
    assert tensors["a.weight"].tolist() == [[np.float32(1 / 3), np.inf]]  # from_torch refuses inf by name.
    assert "w.safetensors: rounding float64 to float32" in caplog.text


def test_a_file_of_something_else_is_refused(tmp_path, torch):
    for content in ([torch.zeros(3)], {"epoch": 3}, {"conv1.weight": np.zeros(3)}, torch.zeros(3), "text"):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(UserError, match=r"w\.pt does not hold a dictionary of tensors with names like conv1\.weig"):
            interop.read(tmp_path / "w.pt")
