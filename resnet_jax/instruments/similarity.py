"""Which blocks compute the same?

**cka** is the linear centred kernel alignment of the outputs of two blocks on training images, whole maps as rows
(Kornblith et al. 2019, arXiv 1905.00414): with columns centred, ||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F), 1 for maps
that are the same up to rotation and size.

Of few images that is too large. So numerator and denominators are estimated without bias on each batch, averaged over
batches, and divided then. The estimate for Gram matrices K = X X^T and L of n images is, with the diagonals of both set
to zero,

    HSIC_1 = [tr(K L) + 1'K1 1'L1 / ((n-1)(n-2)) - 2 1'KL1 / (n-2)] / (n (n-3)),

the mean of k_ij (l_ij + l_qr - 2 l_iq) over all i, j, q, r that differ.

Functions of the net: statistics are running ones, or, where these are not yet of its layers, those of batches. Traps:
blocks whose images are all alike are alike for no other reason, so read it with the rank of features; as an estimate it
may be above 1 or below 0, and is None where the spread of a block is not above 0. Cost: a forward pass of the set.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.instruments import features
from resnet_jax.instruments.subject import Subject


def measure(subject: Subject) -> dict[str, Any]:
    """Return "cka", ``[blocks, blocks]`` in forward order, and "batch" and "batches", their size and number."""
    net, images = subject.net, subject.train.images
    net.require_blocks(2)
    size = min(subject.settings.batch, len(images))
    if size < 4:
        raise UserError(f"{net.title} is compared with itself on batches of {size} images, and that takes 4")
    # Without an incomplete last one: images that are there twice would be alike.
    starts = range(0, len(images) - size + 1, size)

    def outputs(start: int) -> list[np.ndarray]:
        _, found = net.outputs(subject.variables, images[start : start + size], train=subject.by_batch)
        return [features.flattened(np.asarray(output)) for output in found.values()]

    return {"cka": alignment(map(outputs, starts)), "batch": size, "batches": len(starts)}


def alignment(batches: Iterable[list[np.ndarray]]) -> np.ndarray:
    """Return the alignment ``[blocks, blocks]`` of rows ``[images, features]`` of each block, of several batches."""
    total = sum(covariance(np.stack([gram(rows) for rows in batch])) for batch in batches)
    spread = np.diagonal(total)
    scale = np.sqrt(np.where(spread > 0, spread, np.nan))
    return total / np.outer(scale, scale)


def gram(rows: np.ndarray) -> np.ndarray:
    """Return the Gram matrix of ``rows`` with zeros on its diagonal."""
    # Means change nothing but the rounding, which they rule where images are alike.
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
