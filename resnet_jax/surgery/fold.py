"""Batch norms folded into the convolutions before them."""

import numpy as np

from resnet_jax.models import Path
from resnet_jax.surgery.net import EPSILON, Net, require

# Orders in which every norm directly follows a convolution.
ORDERS = ("original", "relu_before_addition", "relu_preactivation")


def fold_norms(net: Net) -> Net:
    """Return the net with ``norm="none"`` that computes what ``net`` does with its running statistics.

    Each kernel becomes ``kernel * scale / sqrt(var + epsilon)`` and each bias ``bias - mean * scale / sqrt(var +
    epsilon)``, per output channel. In training the two nets differ: ``net`` then takes the statistics of its batches.

    Raises:
      UserError: the net has other norms than batch norms, or norms that do not follow a convolution.
    """
    require(net, "fold_norms", norm=("batch",), order=ORDERS)
    leaves = net.leaves
    folded = {path: leaf for path, leaf in leaves.items() if path[0] == "params" and path[-1] != "scale"}
    for path, scale in leaves.items():
        if path[-1] != "scale":
            continue
        _, *layer, _ = path
        mean, var = (leaves["batch_stats", *layer, name] for name in ("mean", "var"))
        factor = np.asarray(scale, np.float64) / np.sqrt(np.asarray(var, np.float64) + EPSILON)
        bias: Path = ("params", *layer, "bias")
        kernel: Path = ("params", *layer[:-1], layer[-1].replace("bn", "conv"), "kernel")
        folded[bias] = (leaves[bias] - mean * factor).astype(scale.dtype)
        folded[kernel] = (leaves[kernel] * factor).astype(scale.dtype)
    return net.rebuilt(folded, norm="none")
