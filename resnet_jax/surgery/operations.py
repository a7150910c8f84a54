"""The operations by name: each makes a new net and checks its promise on images."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.surgery import check, convert, edit, fold, merge
from resnet_jax.surgery.check import Differences
from resnet_jax.surgery.editable import EditableNet


class Outcome(NamedTuple):
    """A new net.

    Attributes:
      net: the net.
      message: description of the operation.
      compared_with: name of the net compared with the new one; None if an operation promises no equal net.
      differences: differences between these two nets.
    """

    net: EditableNet
    message: str
    compared_with: str | None = None
    differences: Differences | None = None


class Operation(NamedTuple):
    """An operation.

    Attributes:
      apply: function ``(net, images, **settings) -> Outcome``, for normalised images ``[examples, height, width,
        channels]``.
      needs: names of required settings.
      takes: names of optional settings.
    """

    apply: Callable[..., Outcome]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


def insert_identity(net: EditableNet, images: np.ndarray, depth: int, noise: float = 0.0, seed: int = 0) -> Outcome:
    """Make ``net`` deeper by blocks that change nothing; then add noise to their kernels."""
    if noise and net.config.residual:
        raise UserError(
            f"--noise={noise:g} is for plain nets; the kernels of blocks inserted into {net.title} are random already."
        )
    new = edit.insert_identity(net, depth, seed)
    inserted = edit.inserted_blocks(net, new)
    if net.config.norm == "batch" and not net.config.residual:
        new = edit.with_statistics(new, check.moments(new, images, inserted))
    last = {name.split("/")[0]: name for name in net.blocks}  # In each stage.
    counterparts = {name: last[name.split("/")[0]] if name in inserted else name for name in new.blocks}
    differences = check.compare(net, new, images, counterparts)
    message = f"{len(inserted)} identity blocks were inserted into {net.title}"
    if not noise:
        return Outcome(new, f"{message}.", "the old net", differences)
    message = f"{message}, and noise of size {noise:g} added to their kernels."
    return Outcome(edit.with_noise(new, inserted, noise, seed), message, "the old net, before the noise", differences)


def same_blocks(
    operation: Callable[[EditableNet], EditableNet], message: str
) -> Callable[[EditableNet, np.ndarray], Outcome]:
    """Return the ``apply`` of an operation that leaves the output of each block unchanged."""

    def apply(net: EditableNet, images: np.ndarray) -> Outcome:
        new = operation(net)
        differences = check.compare(net, new, images, {name: name for name in net.blocks})
        return Outcome(new, message.format(net.title, new.title), "the old net", differences)

    return apply


def merge_branches(net: EditableNet) -> EditableNet:
    """Return the plain net without norms that equals a RepVGG net in evaluation."""
    return EditableNet(*merge.merged(net.config, net.variables))


def delete(net: EditableNet, images: np.ndarray, blocks: Sequence[str]) -> Outcome:
    """Delete ``blocks``, and compare with the gates that delete them."""
    new = edit.delete(net, blocks)
    if net.config.norm == "batch" and not net.config.residual:
        new = edit.with_statistics(new, check.moments(new, images, blocks))
    differences = check.compare_with_gates(net, new, images, blocks)
    instead = "its shortcut" if net.config.residual else "its input"
    message = f"Blocks deleted from {net.title}, where the output of each is now {instead}: {', '.join(blocks)}."
    return Outcome(new, message, "the old net with these blocks deleted by gates", differences)


def permute(net: EditableNet, images: np.ndarray, blocks: Sequence[str]) -> Outcome:
    """Exchange two ``blocks``; the result computes another function."""
    return Outcome(edit.permute(net, blocks), f"Blocks exchanged in {net.title}: {' and '.join(blocks)}.")


OPERATIONS = {
    "insert_identity": Operation(insert_identity, needs=("depth",), takes=("noise", "seed")),
    "fold_norms": Operation(same_blocks(fold.fold_norms, "The batch norms of {} were folded into its convolutions.")),
    "to_plain": Operation(same_blocks(convert.to_plain, "{} was made {}, its shortcuts part of the convolutions.")),
    "to_residual": Operation(
        same_blocks(convert.to_residual, "{} was made {}, its shortcuts subtracted in the convolutions.")
    ),
    "merge_branches": Operation(same_blocks(merge_branches, "The branches of {} were merged; it is {} now.")),
    "delete": Operation(delete, needs=("blocks",)),
    "permute": Operation(permute, needs=("blocks",)),
}
