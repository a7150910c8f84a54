"""Files of tensors: safetensors, and PyTorch's own format if PyTorch is installed."""

import pathlib
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from absl import logging

from resnet_jax.errors import UserError
from resnet_jax.interop import saved
from resnet_jax.interop.formats import Format, format_of
from resnet_jax.safe_files import write_bytes

# Readable types: names in safetensors and in PyTorch.
FLOATS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
# Classes of the options and figures that training programs save next to tensors, by module.
IGNORED_CLASSES = {
    "argparse": ("Namespace",),
    "types": ("SimpleNamespace",),
    "datetime": ("date", "datetime", "timedelta"),
    "pathlib": ("PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath"),
    "pathlib._local": ("PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath"),
    "numpy": ("dtype", "ndarray"),
    "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
}
SAFE_PYTORCH = (2, 6)  # The first whose weights_only=True keeps its promise: CVE-2025-32434.
SAVE = "save the net's tensors only, by torch.save(net.state_dict(), FILE)"


def read(path: pathlib.Path, key: str | None = None) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the tensors of the net in ``path`` by name, as float32, and the metadata of a safetensors file.

    Nothing in the file is executed. A prefix that all names share is left out.

    Args:
      path: file, whose format is recognised by its content.
      key: key of the net, if the file holds several, such as "state_dict_ema".

    Raises:
      UserError: the file is missing, damaged or in another format; it needs PyTorch, which is not installed; it holds
        no net, or several without a ``key``; or a tensor does not hold floats.
    """
    reader = read_safetensors if format_of(path) is Format.SAFETENSORS else read_pytorch
    content, metadata = reader(path)
    tensors = saved.chosen(content, key, str(path))
    types = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()}
    for name, type_ in types.items():
        check_type(path, name, type_)
    if "float64" in types.values():
        logging.info("%s: rounding float64 to float32", path)
    return {name: as_float32(path, name, tensor) for name, tensor in tensors.items()}, metadata


def read_safetensors(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the tensors in a safetensors file and its metadata.

    Raises:
      UserError: the file is damaged or incomplete, or a tensor does not hold floats.
    """
    try:
        # NumPy does not have bfloat16.
        with safetensors.safe_open(path, "numpy") as file, safetensors.safe_open(path, "flax") as of_jax:
            tensors = {}
            for name in file.keys():  # noqa: SIM118 - the file is not a dictionary.
                if name.rpartition(".")[2] not in saved.IGNORED:
                    type_ = file.get_slice(name).get_dtype()
                    check_type(path, name, FLOATS.get(type_, type_))
                    tensors[name] = (of_jax if type_ == "BF16" else file).get_tensor(name)
            return tensors, file.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a complete safetensors file ({error}); download or export it again.") from error


def read_pytorch(path: pathlib.Path) -> tuple[Any, dict[str, str]]:
    """Return the content of a file of ``torch.save``, and no metadata.

    Objects of ``IGNORED_CLASSES`` become ``Ignored``.

    Raises:
      UserError: the file is damaged or would execute code, or PyTorch is not installed or too old.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError(f"{path} needs PyTorch to be read; pip install torch, or use a safetensors file.") from error
    if tuple(map(int, torch.__version__.split(".")[:2])) < SAFE_PYTORCH:
        raise UserError(
            f"{path} needs PyTorch 2.6 or newer to be read, because {torch.__version__} can be made to execute code; "
            "pip install -U torch, or use a safetensors file."
        )
    # PyTorch finds an allowed class by its module and name.
    ignored = [
        type(name, (Ignored,), {"__module__": module}) for module, names in IGNORED_CLASSES.items() for name in names
    ]
    try:
        # An open file, because PyTorch would let the suffix of a name decide.
        allowed, quiet = torch.serialization.safe_globals(ignored), warnings.catch_warnings(action="ignore")
        with allowed, quiet, path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True), {}
    except Exception as error:  # PyTorch raises nearly anything on damaged files.
        # Its own messages advise to execute the file.
        raise UserError(f"{path} is not a complete file of tensors only ({reason(str(error))}.") from None


def reason(error: str) -> str:
    """Explanation of ``error``, the text of an exception of ``torch.load``, with a way out."""
    found = re.search(r"GLOBAL (\S+)", error)
    if found:
        return f"it also holds {found[1]}, and no code is executed here); nothing was loaded; {SAVE}"
    if "Unsupported operand" in error:
        return f"it is damaged, or torch.save was given another pickle_protocol); nothing was loaded; {SAVE}"
    return f"it is damaged); nothing was loaded; download it again, or {SAVE}"


class Ignored:
    """Replacement of an object of another class, which is neither kept nor executed."""

    def __new__(cls, *_: Any) -> "Ignored":
        return object.__new__(cls)

    def __setstate__(self, _: Any) -> None:
        pass


def check_type(path: pathlib.Path, name: str, type_: str) -> None:
    """Raise a UserError unless ``type_`` of the tensor ``name`` in ``path`` is a type of floats."""
    if type_ not in FLOATS.values():
        *others, last = FLOATS.values()
        raise UserError(f"{path}: tensor {name} is of type {type_}; save it as {', '.join(others)} or {last}.")


def as_float32(path: pathlib.Path, name: str, tensor: Any) -> np.ndarray:
    """Return the tensor ``name`` in ``path``, of any library, as an array; numbers that are too large become inf.

    Raises:
      UserError: the tensor is sparse, or has no values.
    """
    if not hasattr(tensor, "detach"):
        with np.errstate(over="ignore"):
            return np.asarray(tensor, np.float32)
    try:
        if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
            raise ValueError("it repeats its values")
        return tensor.detach().float().numpy()
    except Exception as error:  # PyTorch raises many kinds.
        raise UserError(f"{path}: tensor {name} is not an ordinary one with all its values; {SAVE}.") from error


def write(path: pathlib.Path, tensors: Mapping[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write ``tensors`` to safetensors file ``path`` whole or not at all.

    Raises:
      OSError: the file cannot be written.
    """
    write_bytes(path, safetensors.numpy.save(dict(tensors), metadata | {"format": "pt"}))
