"""Files of tensors: safetensors, and PyTorch's own where PyTorch is installed."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from resnet_jax.errors import UserError

# Counters of PyTorch's batch norms, which no computation of these nets uses.
IGNORED = "num_batches_tracked"
# Where training programs put the tensors among other things they save.
NESTED = ("state_dict", "model_state_dict", "model")
PYTORCH_SUFFIXES = (".pth", ".pt", ".th", ".bin")


def read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the tensors in ``path``, float32 by their names, and the metadata of a safetensors file.

    Nothing in the file is executed.

    Raises:
      UserError: the file is missing, damaged, of another kind, or needs PyTorch, which is not installed.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file; give one of weights, as weights.safetensors.")
    metadata: dict[str, str] = {}
    if path.suffix == ".safetensors":
        try:
            with safetensors.safe_open(path, framework="flax") as file:
                names, metadata = file.keys(), file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in names if not name.endswith(IGNORED)}
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise UserError(f"{path} is no whole safetensors file ({error}); get it anew.") from error
    elif path.suffix in PYTORCH_SUFFIXES:
        tensors = read_pytorch(path)
    else:
        raise UserError(f"{path} is of no known kind; give .safetensors or {', '.join(PYTORCH_SUFFIXES)}.")
    return {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}, metadata


def read_pytorch(path: pathlib.Path) -> dict[str, Any]:
    """Return the tensors in a file of ``torch.save``, also from among other things or of a ``DataParallel`` net.

    Raises:
      UserError: there are none, the file is damaged or would execute code, or PyTorch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path} can be read by PyTorch alone: pip install torch, or give a safetensors file."
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Of a damaged file PyTorch raises nearly anything.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} is not a whole file of tensors alone ({reason}); nothing was loaded.") from error
    for name in NESTED:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise UserError(f"{path} holds no dictionary of tensors; save one as torch.save(net.state_dict(), FILE).")
    return {
        name.removeprefix("module."): tensor.detach().float().numpy()
        for name, tensor in content.items()
        if not name.endswith(IGNORED)
    }


def write(path: pathlib.Path, tensors: Mapping[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write ``tensors`` to safetensors file ``path``, whole or not at all.

    Raises:
      OSError: it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    safetensors.numpy.save_file(dict(tensors), partial, metadata | {"format": "pt"})
    partial.replace(path)
