"""Insertion, deletion and exchange of whole blocks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.fields import OrderName, names
from resnet_jax.models import Path, resnet
from resnet_jax.models.layers import init
from resnet_jax.models.stacking import is_first
from resnet_jax.surgery.editable import EPSILON, EditableNet, require

# Mean and variance of a block's output over images and pixels, float64 ``[channels]``.
Moments = tuple[np.ndarray, np.ndarray]

# Orders in which a block with a zero branch is its shortcut: all but the one with a norm after the addition.
ZERO_BRANCH_ORDERS = tuple(order for order in names(OrderName) if order != OrderName.NORM_AFTER_ADDITION)


def insert_identity(net: EditableNet, depth: int, seed: int = 0) -> EditableNet:
    """Return a net of ``depth`` layers that computes the same as ``net``, with blocks added at the end of each stage.

    An inserted block of a plain net passes on its input, which is at least 0 (He et al. 2015, section 3.1): it has
    Dirac kernels and batch norms that undo themselves for mean 0 and variance 1, later for real statistics
    (``with_statistics``). In a residual net the last layer makes its branch zero (``zero_branch``); its other variables
    are initial values drawn from ``seed``.

    Raises:
      UserError: ``depth`` does not fit, or the inserted blocks would not be identities.
    """
    operation = "insert_identity"
    require(net, operation, survival=(1,))
    if net.config.residual:
        require(net, operation, order=ZERO_BRANCH_ORDERS, shortcut=("A", "B", "pool", "dropout"))
        require(net, operation, norm=("batch", "group", "none"))
    else:
        check_has_identity(net, operation)
    config = net.config.copy_and_resolve_references()
    config.depth = depth
    deeper: Any = models.build(config, net.model.num_classes)
    same_block = resnet.effective(config).block == net.effective.block
    grows = all(new >= old for new, old in zip(deeper.stage_sizes, net.model.stage_sizes, strict=True))
    if depth <= net.config.depth or not same_block or not grows:
        raise UserError(
            f"--depth={depth} is not a deeper net of the blocks of {net.title}; give one with more of them."
        )
    drawn = EditableNet(config, models.initial_variables(deeper, seed, net.image_shape))
    dtype = net.variables["params"]["head"]["bias"].dtype
    leaves = {path: leaf.astype(dtype) for path, leaf in drawn.leaves.items()} | net.leaves
    for name in inserted_blocks(net, drawn):
        (zero_branch if net.config.residual else pass_on)(leaves, net, name)
    return drawn.rebuilt(leaves)


def inserted_blocks(old: EditableNet, new: EditableNet) -> list[str]:
    """Return the names of the blocks that ``new`` has and ``old`` lacks."""
    return [name for name in new.blocks if name not in old.blocks]


def check_has_identity(net: EditableNet, operation: str) -> None:
    """Raise a UserError unless plain ``net`` can have blocks that pass on their input exactly."""
    if net.convolutions > 2:
        raise UserError(
            f"{operation} is for plain nets with blocks of one or two 3x3 convolutions, but {net.title} has "
            "bottlenecks, which cannot pass on four times their width; use a net of block basic or single."
        )
    require(net, operation, order=("original",), norm=("batch", "none"))


def pass_on(leaves: dict[Path, np.ndarray], net: EditableNet, name: str) -> None:
    """Let block ``name`` of ``leaves`` pass on an input of at least 0, for statistics of mean 0 and variance 1."""
    constants = {"scale": np.sqrt(1 + EPSILON), "bias": 0, "mean": 0, "var": 1}
    for path, leaf in leaves.items():
        if "/".join(path[1:3]) != name:
            continue
        if path[-1] == "kernel":
            leaves[path] = kernel = np.zeros_like(leaf)
            kernel[1, 1] = np.eye(*kernel.shape[2:])
        else:
            leaves[path] = np.full_like(leaf, constants[path[-1]])


def with_statistics(net: EditableNet, moments: Mapping[str, Moments]) -> EditableNet:
    """Return ``net`` whose blocks that pass on their input have ``moments`` as running statistics.

    Scale and bias undo these statistics: ``scale = sqrt(var + epsilon)``, ``bias = mean``.

    Args:
      net: net with batch norms.
      moments: moments of each such block's output, by its name.
    """
    leaves = net.leaves
    for path, leaf in net.leaves.items():
        if path[-1] != "scale" or (name := "/".join(path[1:3])) not in moments:
            continue
        # Reserved channels of a hidden layer are zero.
        mean, var = (np.pad(moment, (0, len(leaf) - len(moment))) for moment in moments[name])
        layer = path[1:-1]
        for collection, leaf_name, value in (
            ("params", "scale", np.sqrt(var + EPSILON)),
            ("params", "bias", mean),
            ("batch_stats", "mean", mean),
            ("batch_stats", "var", var),
        ):
            leaves[collection, *layer, leaf_name] = value.astype(leaf.dtype)
    return net.rebuilt(leaves)


def with_noise(net: EditableNet, names: Sequence[str], size: float, seed: int = 0) -> EditableNet:
    """Return ``net`` with noise in the kernels of the blocks ``names``: ``size`` times draws from N(0, 2 / fan-in)."""
    leaves, random = net.leaves, np.random.default_rng(seed)
    for path, leaf in net.leaves.items():
        if path[-1] == "kernel" and "/".join(path[1:3]) in names:
            leaves[path] = (leaf + size * init.he_normal.draw(random, leaf.shape)).astype(leaf.dtype)
    return net.rebuilt(leaves)


def zero_branch(leaves: dict[Path, np.ndarray], net: EditableNet, name: str) -> None:
    """Make the branch of block ``name`` in ``leaves``, of a net like ``net``, zero by its last layer.

    This layer is the last norm, with scale and bias; where a branch ends in a convolution, the convolution with its
    kernel and any bias.
    """
    block, last = ("params", *name.split("/")), net.convolutions
    if net.effective.order == OrderName.PREACTIVATION:
        zeroed = [(*block, f"conv{last}", "kernel")]
    elif net.config.norm == "none":
        zeroed = [(*block, f"conv{last}", "kernel"), (*block, f"bn{last}", "bias")]
    else:
        zeroed = [(*block, f"bn{last}", leaf) for leaf in ("scale", "bias")]
    for path in zeroed:
        leaves[path] = np.zeros_like(leaves[path])


def delete(net: EditableNet, names: Sequence[str]) -> EditableNet:
    """Return ``net`` in which the output of the blocks ``names`` is their shortcut, or in a plain net their input.

    A residual net keeps the block with a branch of zeros (``zero_branch``); in a plain net the block passes on its
    input (``pass_on``).

    Raises:
      UserError: a block does not exist or cannot be deleted.
    """
    check_names(net, names)
    leaves = net.leaves
    if net.config.residual:
        require(net, "delete", order=ZERO_BRANCH_ORDERS, norm=("batch", "group", "none"))
        for name in names:
            zero_branch(leaves, net, name)
        return net.rebuilt(leaves)
    check_has_identity(net, "delete")
    for name in names:
        kernels = [leaves["params", *name.split("/"), f"conv{layer}", "kernel"] for layer in (1, net.convolutions)]
        if has_stride(name) or kernels[0].shape[2] != kernels[1].shape[3]:
            raise UserError(
                f"--blocks: {name} of {net.title} changes the shape of the feature maps and has no shortcut; "
                "choose another block of its stage."
            )
        pass_on(leaves, net, name)
    return net.rebuilt(leaves)


def has_stride(name: str) -> bool:
    """Return whether block ``name`` halves height and width."""
    return is_first(name) and not name.startswith("stage1/")


def permute(net: EditableNet, names: Sequence[str]) -> EditableNet:
    """Return ``net`` with the variables of two blocks ``names`` exchanged.

    Raises:
      UserError: ``names`` are not two blocks of one stage with variables of equal shapes.
    """
    check_names(net, names)
    if len(names) != 2:
        raise UserError(f"--blocks={','.join(names)} must be two blocks, e.g. stage2/block3,stage2/block5.")
    leaves = net.leaves
    own = [{(path[0], *path[3:]): path for path in leaves if "/".join(path[1:3]) == name} for name in names]
    shapes = [{inner: leaves[path].shape for inner, path in block.items()} for block in own]
    if names[0].split("/")[0] != names[1].split("/")[0] or shapes[0] != shapes[1]:
        raise UserError(
            f"--blocks={','.join(names)} are not two blocks of one stage with layers of equal shapes; the first block "
            "of a stage often differs from the others."
        )
    for inner, first in own[0].items():
        second = own[1][inner]
        leaves[first], leaves[second] = leaves[second], leaves[first]
    return net.rebuilt(leaves)


def check_names(net: EditableNet, names: Sequence[str]) -> None:
    """Raise a UserError unless ``names`` are blocks of ``net``, each once."""
    for name in names:
        if name not in net.blocks:
            raise UserError(
                f"--blocks: {net.title} has no block {name!r}; its blocks are {net.blocks[0]} to {net.blocks[-1]}."
            )
    if len({*names}) != len(names):
        raise UserError(f"--blocks={','.join(names)} names a block twice; name each once.")
