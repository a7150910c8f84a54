"""How the variables of alike blocks are stored: stacked along a first axis, for a loop that runs over them.

Under ``rest`` are the blocks of a stage after the first, ``block0``; where the first is like the others, all are
stacked under ``blocks``. Everywhere else such a block has a name of its own, as ``block3``: ``stage.py`` stacks, and
only this module knows the stacked layout.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import flax.traverse_util
import numpy as np

# The path of a module or a variable, as ("params", "stage2", "block3", "conv1", "kernel").
Path = tuple[str, ...]

# The first block of a stage where it is not like the others.
FIRST = "block0"
# Names of stacks and the number of the first block in each.
REST, ALL = "rest", "blocks"
LOOPS = {ALL: 0, REST: 1}


def is_first(name: str) -> bool:
    """Return whether ``name``, as "stage2/block3", is the first block of its stage."""
    return name.endswith(f"/{FIRST}")


def stage_of(block: str) -> str:
    """Return the stage of ``block``: "stage2" of "stage2/block3"."""
    return block.partition("/")[0]


def is_block(path: Path) -> bool:
    """Return whether the module at ``path`` is a block, or the body of a loop over blocks."""
    return path[-1] in LOOPS or (path[-1].startswith("block") and path[-1][5:].isdecimal())


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
