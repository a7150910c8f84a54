"""Are the branches of residual nets small?

- **deviation**: the standard deviation over images, pixels and channels of each batch norm's output in the branch of a
  block, before ReLU and addition (He et al. 2015, arXiv 1512.03385, section 4.2 and figure 7: residual nets have
  smaller responses than plain ones, and deeper ones smaller still).

With batch statistics it is a function of scale and bias, epsilon aside: channel c has the mean bias_c and the variance
scale_c ** 2, so all elements together have the deviation

    sqrt(mean_c scale_c ** 2 + var_c bias_c).

All are 1 at step 0 and near 1 after few steps: a picture for long runs. In orders with the norm before the convolution
the response enters the convolution. Norms in shortcuts do not count. Cost: nothing.
"""

from typing import Any

import jax
import numpy as np

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.instruments.subject import Subject


def measure(subject: Subject) -> dict[str, Any]:
    """Return "layers", the norms of the branches of all blocks in forward order, and the "deviation" of each.

    Raises:
      UserError: there are no batch norms in the branches.
    """
    net = subject.net
    layers = branch_norms(subject)
    if not layers:
        raise UserError(f"the branches of {net.title} have no batch norms, from which their responses could be read")
    leaves = models.unstack(jax.device_get(subject.variables["params"]))
    paths = [tuple(layer.split("/")) for layer in layers]
    return {
        "layers": layers,
        "deviation": [deviation(leaves[*path, "scale"], leaves[*path, "bias"]) for path in paths],
    }


def branch_norms(subject: Subject) -> list[str]:
    """Return the names of the batch norms in the net's branches in forward order, such as "stage2/block3/bn1"."""
    walked = models.walk(subject.net.model, subject.net.image_shape)
    norms = [layer.name for layer in walked if {("params", "scale"), ("batch_stats", "mean")} <= layer.variables.keys()]
    # RepVGG's norm "identity" is a shortcut.
    shortcuts = tuple(f"{block.name}/{part}" for block in subject.net.blocks for part in ("shortcut/", "identity"))
    blocks = tuple(f"{block.name}/" for block in subject.net.blocks)
    return [name for name in norms if name.startswith(blocks) and not name.startswith(shortcuts)]


def deviation(scale: np.ndarray, bias: np.ndarray) -> float:
    """Return the standard deviation of the output of a batch norm with ``scale`` and ``bias``, ``[channels]``."""
    scale, bias = np.asarray(scale, np.float64), np.asarray(bias, np.float64)
    return float(np.sqrt(np.mean(scale**2) + np.var(bias)))
