"""Conversion of residual nets to plain ones and back, without a change of function: reserve and merge.

A block ``relu(F(x) + S(x))`` is plain where its shortcut S is part of its convolutions, and residual where S is
subtracted there. In a block of one convolution S is added to the kernel itself. In one of two, the ReLU in between
allows that for no kernel; so the hidden layer reserves as many channels as the input has (``config.model.reserve``), in
which the input, at least 0 after the previous block's ReLU, passes the inner ReLU unchanged (Meng et al. 2021, RMNet,
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

# 3x3 kernels: one takes the pixel in its centre, the other, with stride 2, averages the four pixels of option pool.
CENTRE = np.pad(np.ones((1, 1)), 1)
POOL = np.pad(np.full((2, 2), 1 / 4), ((1, 0), (1, 0)))


class Shortcut(NamedTuple):
    """A shortcut as a 3x3 convolution of the stride of its block, whose kernel is ``taps[i, j] * mixing[c, d]``.

    Attributes:
      taps: weights of pixels, ``[3, 3]``.
      mixing: weights of channels, ``[input channels, output channels]``.
      bias: bias, ``[output channels]``.
    """

    taps: np.ndarray
    mixing: np.ndarray
    bias: np.ndarray


def to_plain(net: EditableNet) -> EditableNet:
    """Return the plain net without norms that computes the same as residual ``net`` with its running statistics.

    Raises:
      UserError: ``net`` does not have such a plain net.
    """
    shortcuts = ("A", "B", "C", "pool", "conv")
    check_convertible(net, "to_plain")
    require(net, "to_plain", residual=(True,), shortcut=shortcuts, survival=(1,))
    return converted(net, sign=1, residual=False)


def to_residual(net: EditableNet) -> EditableNet:
    """Return the residual net with identity shortcuts (option A) that computes the same as plain ``net``.

    It has no norms; ``net`` uses its running statistics.

    Raises:
      UserError: ``net`` does not have such a residual net.
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
    # Only in this order every block has an input of at least 0 and ends in a ReLU.
    require(net, operation, order=("original",), norm=("batch", "none"), reserve=(False,))


def converted(net: EditableNet, sign: int, residual: bool, **fields: str) -> EditableNet:
    """Return ``net`` without norms, with ``sign`` times the shortcut of each block added to its convolutions.

    A plain ``net`` has shortcuts of option A here. The other arguments are fields of the result's config.
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
      leaves: leaves of a net without norms, float of any width.
      block: path of the block in ``leaves``.
      convolutions: number of convolutions in the block.
      pools: whether an identity averages over 2x2 pixels where the block has a stride (option pool).
    """
    channels = leaves[*block, "conv1", "kernel"].shape[2]
    features = leaves[*block, f"conv{convolutions}", "kernel"].shape[3]
    projection = leaves.get((*block, "shortcut", "conv", "kernel"))
    if projection is not None:  # Its bias replaces a norm; option conv lacks both.
        bias = leaves.get((*block, "shortcut", "bn", "bias"), np.zeros(features))
        return Shortcut(CENTRE, projection[0, 0], bias)
    halves = has_stride("/".join(block[1:]))
    front = 0 if pools else (features - channels) // 2
    return Shortcut(POOL if pools and halves else CENTRE, np.eye(channels, features, front), np.zeros(features))


def merge_one(leaves: Leaves, block: Path, shortcut: Shortcut, sign: int) -> None:
    """Add ``sign`` times ``shortcut`` to the only convolution of ``block``."""
    add(leaves, (*block, "conv1", "kernel"), sign * kernel_of(shortcut.taps, shortcut.mixing))
    add(leaves, (*block, "bn1", "bias"), sign * shortcut.bias)


def merge_two(leaves: Leaves, block: Path, shortcut: Shortcut, sign: int) -> None:
    """Reserve channels for the input in ``block``'s hidden layer, and add ``sign`` times their ``shortcut``."""
    channels = len(shortcut.mixing)
    extend(leaves, (*block, "conv1", "kernel"), kernel_of(shortcut.taps, np.eye(channels)), axis=3)
    extend(leaves, (*block, "bn1", "bias"), np.zeros(channels), axis=0)
    extend(leaves, (*block, "conv2", "kernel"), sign * kernel_of(CENTRE, shortcut.mixing), axis=2)
    add(leaves, (*block, "bn2", "bias"), sign * shortcut.bias)


def kernel_of(taps: np.ndarray, mixing: np.ndarray) -> np.ndarray:
    """Return the kernel ``[3, 3, input channels, output channels]`` with the factors ``taps`` and ``mixing``."""
    return taps[:, :, None, None] * mixing


def add(leaves: Leaves, path: Path, values: np.ndarray) -> None:
    """Add ``values`` to the leaf at ``path``."""
    leaves[path] = (leaves[path] + values).astype(leaves[path].dtype)


def extend(leaves: Leaves, path: Path, values: np.ndarray, axis: int) -> None:
    """Append ``values`` to the leaf at ``path`` along ``axis``."""
    leaves[path] = np.concatenate([leaves[path], values.astype(leaves[path].dtype)], axis)
