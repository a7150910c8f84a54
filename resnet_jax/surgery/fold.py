"""Batch norms folded into the convolutions before them."""

from collections.abc import Mapping

import numpy as np

from resnet_jax.models import Path
from resnet_jax.surgery.editable import EPSILON, EditableNet, require

# Leaves of a net by their paths, with blocks unstacked.
Leaves = Mapping[Path, np.ndarray]
# Orders in which every norm directly follows a convolution.
ORDERS = ("original", "relu_before_addition", "relu_preactivation")


def fold_norms(net: EditableNet) -> EditableNet:
    """Return the net with ``norm="none"`` that computes the same as ``net`` with its running statistics.

    Each kernel becomes ``kernel * scale / sqrt(var + epsilon)`` and each bias ``bias - mean * scale / sqrt(var +
    epsilon)``, per output channel. In training the two nets differ, because ``net`` then uses batch statistics.

    Raises:
      UserError: the net has other norms than batch norms, or norms that do not follow a convolution.
    """
    require(net, "fold_norms", norm=("batch",), order=ORDERS)
    leaves = net.leaves
    new = {path: leaf for path, leaf in leaves.items() if path[0] == "params" and path[-1] != "scale"}
    for path, scale in leaves.items():
        if path[-1] != "scale":
            continue
        norm = path[1:-1]
        kernel: Path = ("params", *norm[:-1], norm[-1].replace("bn", "conv"), "kernel")
        new_kernel, new_bias = folded(leaves[kernel], leaves, norm)
        new[kernel], new["params", *norm, "bias"] = new_kernel.astype(scale.dtype), new_bias.astype(scale.dtype)
    return net.rebuilt(new, norm="none")


def folded(kernel: np.ndarray, leaves: Leaves, norm: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel and bias, float64, of ``kernel`` followed by batch norm ``norm``, in evaluation."""
    scale, bias = (np.asarray(leaves["params", *norm, name], np.float64) for name in ("scale", "bias"))
    mean, var = (np.asarray(leaves["batch_stats", *norm, name], np.float64) for name in ("mean", "var"))
    factor = scale / np.sqrt(var + EPSILON)
    return kernel * factor, bias - mean * factor
