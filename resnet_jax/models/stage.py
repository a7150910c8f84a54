"""The loop over alike blocks, and a net's variables with and without its stacking.

The blocks of a stage after the first, ``block0``, are alike. Their parameters are stacked along a first axis under
``rest`` and a loop runs over them, so that compile time does not grow with depth. Where the first is like the others,
all are stacked under ``blocks``. Everywhere else such a block has a name of its own, as ``block3``: this module alone
knows how it is stored.
"""

import dataclasses
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

# Of a module or a variable, as ("params", "stage2", "block3", "conv1", "kernel").
Path = tuple[str, ...]

# From where blocks are stacked to the number of the first of them.
LOOPS = {"blocks": 0, "rest": 1}
# The keys that layers draw from in training, as Flax calls them; each block draws by its own.
RANDOM = ("dropout", "survival")
# Collections with an entry for each block. Where one is missing, the loop runs without it.
STACKED = ("params", "batch_stats", "gates", "intermediates", "perturbations")


class Stage(nn.Module):
    """Blocks on feature maps of one size; the first takes the stride.

    Attributes:
      blocks: how many.
      stride: of the first.
      block: makes a block, given its stride and name.
      unroll: whether the loop is unrolled, which compiles longer and computes the same.
      remat: whether blocks are rematerialised in the backward pass instead of kept in memory.
      survival: probability that each block's branch is computed in training (stochastic depth); empty without.
      input_scales: what each block's branch multiplies its input by (normalizer-free nets); empty without.
      first: further attributes of the first block.
      alike: whether the first block is like the others, and the loop over all of them.
    """

    blocks: int
    stride: int
    block: Callable[..., nn.Module]
    unroll: bool = False
    remat: bool = False
    survival: Sequence[float] = ()
    input_scales: Sequence[float] = ()
    first: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    alike: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def apply(block: nn.Module, x: jax.Array, numbers: dict[str, jax.Array]) -> tuple[jax.Array, None]:
            return block(x, **numbers), None

        step = nn.remat(apply, prevent_cse=False) if self.remat else apply
        constants = {"survival": self.survival, "input_scale": self.input_scales}
        numbers = {name: jnp.array(values) for name, values in constants.items() if values}
        if not self.alike:
            own, numbers = (jax.tree.map(operator.itemgetter(part), numbers) for part in (0, slice(1, None)))
            x, _ = step(self.block(stride=self.stride, name="block0", **self.first), x, own)
        looped = self.blocks if self.alike else self.blocks - 1
        if looped:
            loop = nn.scan(
                step,
                variable_axes=dict.fromkeys(STACKED, 0),
                split_rngs=dict.fromkeys(("params", *RANDOM), True),
                length=looped,
                unroll=looped if self.unroll else 1,
            )
            x, _ = loop(self.block(stride=1, name="blocks" if self.alike else "rest"), x, numbers)
        return x


def loop_of(path: Path) -> Path | None:
    """Return the path of the loop that ``path`` lies in, None outside of loops."""
    return next((path[: place + 1] for place, part in enumerate(path) if part in LOOPS), None)


def unstacked(path: Path, index: int | None) -> Path:
    """Return the path of block ``index`` of those stacked at ``path``; the same path if ``index`` is None."""
    return tuple(f"block{index + LOOPS[part]}" if part in LOOPS and index is not None else part for part in path)


def unstack(variables: Mapping[str, Any]) -> dict[Path, np.ndarray]:
    """Return the leaves of ``variables`` by their paths, each block's on its own."""
    leaves: dict[Path, np.ndarray] = {}
    for path, leaf in flax.traverse_util.flatten_dict(variables).items():
        if loop_of(path) is None:
            leaves[path] = leaf
        else:
            leaves |= {unstacked(path, index): block for index, block in enumerate(leaf)}
    return leaves


def stack(leaves: Mapping[Path, np.ndarray], like: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables with the structure of ``like`` from leaves as ``unstack`` gives them."""

    def blocks(path: Path, leaf: np.ndarray) -> Iterable[tuple[Path, int | None, np.ndarray]]:
        for index in [None] if loop_of(path) is None else range(len(leaf)):
            yield path, index, leaves[unstacked(path, index)]

    return assemble(
        block for path, leaf in flax.traverse_util.flatten_dict(like).items() for block in blocks(path, leaf)
    )


def assemble(leaves: Iterable[tuple[Path, int | None, np.ndarray]]) -> dict[str, Any]:
    """Return variables from leaves with their path and, in a loop, the index of their block, in rising order."""
    flat: dict[Path, Any] = {}
    for path, index, leaf in leaves:
        if index is None:
            flat[path] = leaf
        else:
            flat.setdefault(path, []).append(leaf)
    stacked = {path: np.stack(leaf) if isinstance(leaf, list) else leaf for path, leaf in flat.items()}
    return flax.traverse_util.unflatten_dict(stacked)
