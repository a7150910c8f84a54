"""Plain nets from residual ones and the reverse, both computing the same: reserve and merge.

A block ``relu(F(x) + S(x))`` is plain where its shortcut S is part of its convolutions, and residual where S is
subtracted there. In a block of one convolution S is added to the kernel itself. In one of two, the ReLU in between
allows that for no kernel; so the hidden layer reserves as many channels as the input has (``config.model.reserve``), in
which the input, 0 or more behind the ReLU of the block before, passes that ReLU unchanged (Meng et al. 2021, RMNet,
arXiv 2111.00687).
"""

from typing import NamedTuple

import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.models import Path
from resnet_jax.surgery.edit import has_stride
from resnet_jax.surgery.editable import EditableNet, require
from resnet_jax.surgery.fold import fold_norms

Leaves = dict[Path, np.ndarray]

# A 3x3 kernel that takes the pixel in its centre, and one, for stride 2, that averages the four pixels of option pool.
CENTRE = np.pad(np.ones((1, 1)), 1)
POOL = np.pad(np.full((2, 2), 1 / 4), ((1, 0), (1, 0)))


class Shortcut(NamedTuple):
    """A shortcut as a 3x3 convolution of the stride of its block, whose kernel is ``taps[i, j] * mixing[c, d]``.

    Attributes:
      taps: ``[3, 3]``.
      mixing: ``[input channels, output channels]``.
      bias: ``[output channels]``.
    """

    taps: np.ndarray
    mixing: np.ndarray
    bias: np.ndarray


def to_plain(net: EditableNet) -> EditableNet:
    """Return the plain net without norms that computes what residual ``net`` does with its running statistics.

    Raises:
      UserError: there is none, or ``net`` is not of a kind that is converted.
    """
    shortcuts = ("A", "B", "C", "pool", "conv")
    check_convertible(net, "to_plain")
    require(net, "to_plain", residual=(True,), shortcut=shortcuts, survival=(1,))
    return converted(net, sign=1, residual=False)


def to_residual(net: EditableNet) -> EditableNet:
    """Return the residual net with identity shortcuts (option A) that computes what plain ``net`` does.

    It has no norms; ``net`` is taken with its running statistics.

    Raises:
      UserError: there is none, or ``net`` is not of a kind that is converted.
    """
    check_convertible(net, "to_residual")
    require(net, "to_residual", residual=(False,))
    return converted(net, sign=-1, residual=True, shortcut="A")


def check_convertible(net: EditableNet, operation: str) -> None:
    """Raise a UserError unless ``net`` has blocks that ``operation`` can convert."""
    if net.convolutions > 2:
        raise UserError(
            f"{operation} is for blocks of one or two 3x3 convolutions, but {net.title} has bottlenecks; use a net of "
            "block basic or single."
        )
    # Only in this order is the input of every block 0 or more and a ReLU its end.
    require(net, operation, order=("original",), norm=("batch", "none"), reserve=(False,))


def converted(net: EditableNet, sign: int, residual: bool, **fields: str) -> EditableNet:
    """Return ``net`` without norms, with ``sign`` times the shortcut of each block added to its convolutions.

    The shortcuts are those of a residual ``net``, else those of option A. The other arguments are fields of the result.
    """
    folded = fold_norms(net) if net.config.norm == "batch" else net
    leaves = folded.leaves
    merge = merge_one if net.convolutions == 1 else merge_two
    pools = net.config.residual and net.effective.shortcut == "pool"
    for name in net.blocks:
        block: Path = ("params", *name.split("/"))
        merge(leaves, block, shortcut_of(leaves, block, net.convolutions, pools), sign)
    reserve = net.convolutions == 2
    return folded.rebuilt(leaves, residual=residual, reserve=reserve, **fields)


def shortcut_of(leaves: Leaves, block: Path, convolutions: int, pools: bool) -> Shortcut:
    """Return the shortcut of ``block`` as a convolution: its projection where it has one, else the identity.

    Args:
      leaves: of a net without norms; float of any width.
      block: the path of the block in them.
      convolutions: of the block.
      pools: whether an identity averages over 2x2 pixels where the block has a stride (option pool).
    """
    channels = leaves[*block, "conv1", "kernel"].shape[2]
    features = leaves[*block, f"conv{convolutions}", "kernel"].shape[3]
    projection = leaves.get((*block, "shortcut", "conv", "kernel"))
    if projection is not None:  # Its bias is in the place of a norm, which option conv has not.
        bias = leaves.get((*block, "shortcut", "bn", "bias"), np.zeros(features))
        return Shortcut(CENTRE, projection[0, 0], bias)
    halves = has_stride("/".join(block[1:]))
    front = 0 if pools else (features - channels) // 2
    return Shortcut(POOL if pools and halves else CENTRE, np.eye(channels, features, front), np.zeros(features))


def merge_one(leaves: Leaves, block: Path, shortcut: Shortcut, sign: int) -> None:
    """Add ``sign`` times ``shortcut`` to the one convolution of ``block``."""
    add(leaves, (*block, "conv1", "kernel"), sign * kernel_of(shortcut.taps, shortcut.mixing))
    add(leaves, (*block, "bn1", "bias"), sign * shortcut.bias)


def merge_two(leaves: Leaves, block: Path, shortcut: Shortcut, sign: int) -> None:
    """Reserve channels for the input in the hidden layer of ``block``, and add ``sign`` times ``shortcut`` of them."""
    channels = len(shortcut.mixing)
    extend(leaves, (*block, "conv1", "kernel"), kernel_of(shortcut.taps, np.eye(channels)), axis=3)
    extend(leaves, (*block, "bn1", "bias"), np.zeros(channels), axis=0)
    extend(leaves, (*block, "conv2", "kernel"), sign * kernel_of(CENTRE, shortcut.mixing), axis=2)
    add(leaves, (*block, "bn2", "bias"), sign * shortcut.bias)


def kernel_of(taps: np.ndarray, mixing: np.ndarray) -> np.ndarray:
    """Return the kernel ``[3, 3, input channels, output channels]`` of these factors."""
    return taps[:, :, None, None] * mixing


def add(leaves: Leaves, path: Path, values: np.ndarray) -> None:
    """Add ``values`` to the leaf at ``path``."""
    leaves[path] = (leaves[path] + values).astype(leaves[path].dtype)


def extend(leaves: Leaves, path: Path, values: np.ndarray, axis: int) -> None:
    """Append ``values`` to the leaf at ``path`` along ``axis``."""
    leaves[path] = np.concatenate([leaves[path], values.astype(leaves[path].dtype)], axis)
