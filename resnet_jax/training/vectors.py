"""The state of training as vectors; a GPU updates each vector in few kernels."""

from collections.abc import Callable
from typing import Any

import jax
from jax.flatten_util import ravel_pytree


def same(tree: Any) -> Any:
    """Return ``tree``: packs and unpacks where nothing is packed."""
    return tree


def packing(state: Any) -> tuple[Callable[[Any], list[jax.Array]], Callable[[list[jax.Array]], Any]]:
    """Return a function that packs states like ``state``, a ``TrainState``, into vectors, and its inverse.

    A vector holds the leaves of one tree: parameters, running statistics, or the optimiser's numbers for each
    parameter. Vectors of several of these would be more kernels again.
    """
    trees = (tree for tree in (state.params, state.batch_stats) if jax.tree.leaves(tree))
    unravel = {jax.tree.structure(tree): ravel_pytree(tree)[1] for tree in trees}

    def is_vector(tree: Any) -> bool:
        return jax.tree.structure(tree) in unravel

    def pack(state: Any) -> list[jax.Array]:
        return [
            ravel_pytree(tree)[0] if is_vector(tree) else tree for tree in jax.tree.leaves(state, is_leaf=is_vector)
        ]

    parts, whole = jax.tree.flatten(state, is_leaf=is_vector)

    def unpack(packed: list[jax.Array]) -> Any:
        restored = [
            unravel[jax.tree.structure(tree)](part) if is_vector(tree) else part
            for tree, part in zip(parts, packed, strict=True)
        ]
        return jax.tree.unflatten(whole, restored)

    return pack, unpack
