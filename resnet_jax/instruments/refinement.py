"""Do blocks move features down the loss?

- **train**, **test**: for each block the mean over images of the cosine of F(x) and dL/dx, for its branch F, its input
  x and the image's loss L. As L(x + F(x)) = L(x) + <F(x), dL/dx> + ..., a negative cosine is a step down the loss:
  iterative refinement (Jastrzebski et al. 2018, arXiv 1710.04773, section 4.1, who find it in all blocks, more in
  higher ones, about -0.1 in the last ones of ResNet-110).
- **of**: "branch", or "change" in plain nets, whose blocks have no shortcut: there y - x for the output y replaces
  F(x). Compare nets with and without shortcuts with care: y - x contains the part that the ReLU removes.

None for blocks that change the shape, where F and x cannot be compared, and for the first, whose input is the stem's
output. An image without gradient counts as cosine 0. Functions of the net use running statistics, or batch statistics
until these have settled ("statistics" of the measurement); then dL/dx contains the share that batch norm carries over
from batch-mates. Once training images are fitted, only the few others have gradients: read both splits.

Cost: one gradient of both splits and, of a residual net, a forward pass of both.
"""

from typing import Any

import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.instruments.batches import whole_batches
from resnet_jax.instruments.observed import Block, ObservedNet
from resnet_jax.instruments.subject import Images, Subject


def measure(subject: Subject) -> dict[str, Any]:
    """Return "of", "train" and "test"; the last two are lists over blocks in forward order, None where undefined."""
    net = subject.net
    if not inputs(net):
        raise UserError(f"in {net.title} no block has an output of the shape of the output before it")
    return {
        "of": "branch" if net.is_residual else "change",
        "train": mean_cosines(subject, subject.train),
        "test": mean_cosines(subject, subject.test),
    }


def inputs(net: ObservedNet) -> dict[str, Block]:
    """Return the preceding block of each block that keeps its shape, by the name of the block."""
    pairs = zip(net.blocks, net.blocks[1:], strict=False)
    return {block.name: before for before, block in pairs if (before.stage, before.shape) == (block.stage, block.shape)}


def mean_cosines(subject: Subject, images: Images) -> list[float | None]:
    """Return the mean cosine over ``images`` of each block in forward order."""
    net, found = subject.net, dict[str, list[np.ndarray]]()
    for batch in whole_batches(images, subject.settings.batch):
        _, gradients, _ = net.output_gradients(subject.variables, *batch, train=subject.uses_batch_statistics)
        changes = branches(subject, batch.images) if net.is_residual else changes_of(subject, batch.images)
        for name, before in inputs(net).items():
            found.setdefault(name, []).append(row_cosines(changes[name], np.asarray(gradients[before.name])))
    return [float(np.mean(found[block.name])) if block.name in found else None for block in net.blocks]


def branches(subject: Subject, images: np.ndarray) -> dict[str, np.ndarray]:
    """Return the branch of each block on ``images``."""
    parts = subject.net.parts(subject.variables, images, train=subject.uses_batch_statistics)
    return {block.name: each.branch for block, each in parts}


def changes_of(subject: Subject, images: np.ndarray) -> dict[str, np.ndarray]:
    """Return output minus input of each block that keeps its shape, on ``images``."""
    _, outputs = subject.net.outputs(subject.variables, images, train=subject.uses_batch_statistics)
    return {
        name: np.asarray(outputs[name]) - np.asarray(outputs[before.name])
        for name, before in inputs(subject.net).items()
    }


def row_cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of two arrays ``[rows, ...]``; with a row of zeros it is 0."""
    one, other = (each.reshape(len(each), -1).astype(np.float64) for each in (one, other))
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.sum(one * other, axis=1) / np.where(norms > 0, norms, 1)
