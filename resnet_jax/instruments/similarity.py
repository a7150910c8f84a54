"""Which blocks compute the same?

**cka** is the linear centred kernel alignment of the outputs of two blocks on training images, whole maps as rows
(Kornblith et al. 2019, arXiv 1905.00414): with columns centred, ||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F), 1 for maps
that are the same up to rotation and size.

For few images this is too large. So numerator and denominators are estimated without bias on each batch, averaged over
batches, and then divided. The estimate for Gram matrices K = X X^T and L of n images is, with the diagonals of both set
to zero,

    HSIC_1 = [tr(K L) + 1'K1 1'L1 / ((n-1)(n-2)) - 2 1'KL1 / (n-2)] / (n (n-3)),

the mean of k_ij (l_ij + l_qr - 2 l_iq) over all i, j, q, r that differ.

Functions of the net use running statistics, or batch statistics until these have settled. Traps: blocks that map all
images to one output are similar for only this reason, so read it with the rank of features; the estimate may be above 1
or below 0, and is None where the spread of a block is not above 0. Cost: a forward pass of the set.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.instruments import features
from resnet_jax.instruments.subject import Subject


def measure(subject: Subject) -> dict[str, Any]:
    """Return "cka", ``[blocks, blocks]`` in forward order, the "batch" size and the number of "batches"."""
    net, images = subject.net, subject.train.images
    net.require_blocks(2)
    size = min(subject.settings.batch, len(images))
    if size < 4:
        raise UserError(f"{net.title} is compared with itself on batches of {size} images, and that takes 4")
    # Without an incomplete last batch: repeated images would be alike.
    starts = range(0, len(images) - size + 1, size)

    def outputs(start: int) -> list[np.ndarray]:
        _, found = net.outputs(subject.variables, images[start : start + size], train=subject.uses_batch_statistics)
        return [features.flattened(np.asarray(output)) for output in found.values()]

    return {"cka": alignment(map(outputs, starts)), "batch": size, "batches": len(starts)}


def alignment(batches: Iterable[list[np.ndarray]]) -> np.ndarray:
    """Return the alignment ``[blocks, blocks]``, given each block's rows ``[images, features]`` in several batches."""
    total = sum(covariance(np.stack([gram(rows) for rows in batch])) for batch in batches)
    spread = np.diagonal(total)
    scale = np.sqrt(np.where(spread > 0, spread, np.nan))
    return total / np.outer(scale, scale)


def gram(rows: np.ndarray) -> np.ndarray:
    """Return the Gram matrix of ``rows`` with zeros on its diagonal."""
    # Means change only the rounding, which dominates where images are alike.
    deviations = features.centred(rows)
    matrix = deviations @ deviations.T
    np.fill_diagonal(matrix, 0)
    return matrix


def covariance(grams: np.ndarray) -> np.ndarray:
    """Return HSIC_1 of all pairs of Gram matrices ``[blocks, images, images]`` with zero diagonals."""
    n = grams.shape[1]
    flat, sums = grams.reshape(len(grams), -1), grams.sum(1)
    totals = sums.sum(1)
    pairs = flat @ flat.T + np.outer(totals, totals) / ((n - 1) * (n - 2)) - 2 * sums @ sums.T / (n - 2)
    return pairs / (n * (n - 3))
