"""Files of tensors: safetensors, and PyTorch's own format if PyTorch is installed."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from resnet_jax.errors import UserError

# Counters of PyTorch's batch norms, which these nets do not use.
IGNORED = "num_batches_tracked"
# Keys under which training programs save the tensors among other things.
NESTED = ("state_dict", "model_state_dict", "model")
PYTORCH_SUFFIXES = (".pth", ".pt", ".th", ".bin")


def read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the tensors in ``path`` by name, as float32, and the metadata of a safetensors file.

    Nothing in the file is executed.

    Raises:
      UserError: the file is missing, damaged or of another format, or needs PyTorch, which is not installed.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file; use a weights file like weights.safetensors.")
    metadata: dict[str, str] = {}
    if path.suffix == ".safetensors":
        try:
            with safetensors.safe_open(path, framework="flax") as file:
                names, metadata = file.keys(), file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in names if not name.endswith(IGNORED)}
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise UserError(
                f"{path} is not a complete safetensors file ({error}); download or export it again."
            ) from error
    elif path.suffix in PYTORCH_SUFFIXES:
        tensors = read_pytorch(path)
    else:
        raise UserError(f"{path} has an unknown suffix; use {', '.join(('.safetensors', *PYTORCH_SUFFIXES))}.")
    return {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}, metadata


def read_pytorch(path: pathlib.Path) -> dict[str, Any]:
    """Return the tensors in a file of ``torch.save``, also nested under ``NESTED`` or from a ``DataParallel`` net.

    Raises:
      UserError: it holds no tensors, is damaged or would execute code, or PyTorch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError(f"{path} needs PyTorch to be read; pip install torch, or use a safetensors file.") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch raises nearly anything on damaged files.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} is not a complete file of tensors only ({reason}); nothing was loaded.") from error
    for name in NESTED:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise UserError(
            f"{path} does not hold a dictionary of tensors; save it with torch.save(net.state_dict(), FILE)."
        )
    return {
        name.removeprefix("module."): tensor.detach().float().numpy()
        for name, tensor in content.items()
        if not name.endswith(IGNORED)
    }


def write(path: pathlib.Path, tensors: Mapping[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write ``tensors`` to safetensors file ``path`` atomically.

    Raises:
      OSError: the file cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    safetensors.numpy.save_file(dict(tensors), partial, metadata | {"format": "pt"})
    partial.replace(path)
