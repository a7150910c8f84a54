"""RepVGG's nets after training: all branches of a block merged into one convolution (Ding et al. 2021, section 3.3)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.models import Path
from resnet_jax.surgery.fold import Leaves, folded


def merged(model: models.Fields, variables: Mapping[str, Any]) -> tuple[ConfigDict, dict[str, Any]]:
    """Return ``config.model`` and variables of the plain net without norms that equals a RepVGG net in evaluation.

    Each block is one 3x3 convolution and a bias; so is the stem.

    Args:
      model: ``config.model`` of the net, with block "repvgg".
      variables: "params" and "batch_stats" of the net.

    Raises:
      UserError: the net has other blocks.
    """
    config = models.complete(model)
    if config.block != "repvgg" or config.family != "cifar":
        raise UserError(f"{models.title(config)} has no branches to merge; give a net of config.model.block='repvgg'.")
    leaves = models.unstack({name: variables[name] for name in ("params", "batch_stats")})
    plain: dict[Path, np.ndarray] = {path: leaf for path, leaf in leaves.items() if path[:2] == ("params", "head")}
    for path in leaves:
        if path[0] == "params" and path[-1] == "kernel" and path[-2] in ("conv", "conv1") and "shortcut" not in path:
            block, conv = path[1:-2], path[-2]
            norm = conv.replace("conv", "bn")
            kernel, bias = merged_block(leaves, block, conv, norm)
            dtype = leaves[path].dtype
            plain[path], plain["params", *block, norm, "bias"] = kernel.astype(dtype), bias.astype(dtype)
    config.update(block="single", residual=False, norm="none")
    stem, head = leaves["params", "stem", "conv", "kernel"], leaves["params", "head", "bias"]
    like = models.template(models.build(config, len(head)), (8, 8, stem.shape[2]))
    return config, models.stack(plain, like)


def merged_block(leaves: Leaves, block: Path, conv: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel and bias of the convolution that equals ``block``; ``conv`` is 3x3 and ``norm`` its norm."""
    kernel, bias = folded(leaves["params", *block, conv, "kernel"], leaves, (*block, norm))
    pointwise = ("params", *block, "shortcut", "conv", "kernel")
    if pointwise in leaves:
        more, offset = folded(centred(leaves[pointwise]), leaves, (*block, "shortcut", "bn"))
        kernel, bias = kernel + more, bias + offset
    if ("params", *block, "identity", "scale") in leaves:
        more, offset = folded(centred(np.eye(len(bias))[None, None]), leaves, (*block, "identity"))
        kernel, bias = kernel + more, bias + offset
    return kernel, bias


def centred(kernel: np.ndarray) -> np.ndarray:
    """Return the 1x1 ``kernel`` as the centre of a 3x3 kernel of zeros."""
    return np.pad(kernel, ((1, 1), (1, 1), (0, 0), (0, 0)))
