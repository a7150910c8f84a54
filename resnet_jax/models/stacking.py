"""A net's variables with and without the stacking of its alike blocks.

In a net the blocks of a stage behind the first are stacked under ``rest``; whoever means one of them says ``block3``.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax.models.resnet import REST

# Of a leaf, as ("params", "stage2", "block3", "conv1", "kernel").
Path = tuple[str, ...]


def template(model: nn.Module, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """Return arrays of the shapes of the variables of ``model``, for images of ``image_shape``; they take no memory."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    shapes = jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)
    return jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)


def unstack(variables: Mapping[str, Any]) -> dict[Path, np.ndarray]:
    """Return the leaves of ``variables`` by their paths, each block's on their own."""
    leaves: dict[Path, np.ndarray] = {}
    for keys, leaf in jax.tree.leaves_with_path(variables):
        path = tuple(key.key for key in keys)
        if REST in path:
            leaves |= dict(zip(block_paths(path, len(leaf)), leaf, strict=True))
        else:
            leaves[path] = leaf
    return leaves


def stack(leaves: Mapping[Path, np.ndarray], like: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables with the structure of ``like``, of what ``unstack`` would give."""

    def find(keys: tuple[Any, ...], leaf: np.ndarray) -> np.ndarray:
        path = tuple(key.key for key in keys)
        if REST in path:
            return np.stack([leaves[block] for block in block_paths(path, len(leaf))])
        return leaves[path]

    return jax.tree.map_with_path(find, like)


def block_paths(path: Path, blocks: int) -> list[Path]:
    """Return the path of each of ``blocks`` blocks whose leaves are stacked at ``path``."""
    return [tuple(f"block{index}" if part == REST else part for part in path) for index in range(1, blocks + 1)]
