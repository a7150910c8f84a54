"""Files of tensors: what is read, and what is refused."""

import pathlib
import sys

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


def test_what_is_written_is_read(tmp_path):
    interop.write(tmp_path / "w.safetensors", TENSORS, {"key": "value"})
    tensors, metadata = interop.read(tmp_path / "w.safetensors")
    assert_tensors(tensors)
    assert metadata == {"key": "value", "format": "pt"}
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_and_counters_of_batches(tmp_path, dtype):
    counter = {"bn.num_batches_tracked": jnp.zeros((), jnp.int32)}
    tensors = {name: jnp.asarray(tensor, dtype) for name, tensor in TENSORS.items()}
    safetensors.flax.save_file(tensors | counter, tmp_path / "w.safetensors")
    assert_tensors(interop.read(tmp_path / "w.safetensors")[0])


def test_files_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch; make .venv/peer installs it")
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
    (tmp_path / "w.pth").write_bytes(b"")
    with pytest.raises(UserError, match=r"w\.pth needs PyTorch to be read; pip install torch, or use a safeten"):
        interop.read(tmp_path / "w.pth")
    interop.write(tmp_path / "w.safetensors", TENSORS, {})
    assert_tensors(interop.read(tmp_path / "w.safetensors")[0])


class Evil:
    """Unpickling this would run code."""

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("executed"),)


def test_code_in_a_file_of_pytorch_is_not_executed(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="needs PyTorch; make .venv/peer installs it")
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Evil()}, "w.pth")
    with pytest.raises(UserError, match=r"w\.pth is not a complete file of tensors only .* nothing was loaded"):
        interop.read(pathlib.Path("w.pth"))
    assert not pathlib.Path("executed").exists()


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 100])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_damaged_files_are_refused(tmp_path, name, content):
    if name == "w.pth":
        pytest.importorskip("torch", reason="needs PyTorch; make .venv/peer installs it")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} is not a complete (safetensors file|file of tensors only)"):
        interop.read(tmp_path / name)


def test_a_file_of_something_else_is_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch; make .venv/peer installs it")
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    with pytest.raises(UserError, match=r"list\.pt does not hold a dictionary of tensors; save it with torch\.save"):
        interop.read(tmp_path / "list.pt")


def test_missing_files_and_unknown_kinds_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no\.safetensors is not a file; use a weights file"):
        interop.read(tmp_path / "no.safetensors")
    (tmp_path / "w.h5").write_bytes(b"")
    with pytest.raises(UserError, match=r"w\.h5 has an unknown suffix; use \.safetensors, \.pth"):
        interop.read(tmp_path / "w.h5")
