"""What does the loss look like around the net?

The loss of f(w + x d + y e) over the plane of two random directions d and e, scaled filter by filter as in Li et al.
2018 (arXiv 1712.09913): of Gaussian numbers d_f and each filter w_f of the net

    d_f <- d_f ||w_f|| / (||d_f|| + 1e-10),

where a filter is the part of a kernel that makes one output, of a convolution or the head: one index of the last axis.
For biases and for scales and biases of norms d is 0. So the plane is as wide for large filters as for small ones, with
which a net with batch norm computes the same.

- **alphas**: the values of x and of y, from -1 to 1: at 1 each filter has moved by its own length in both directions.
- **losses**: ``losses[i][j]`` is the mean cross entropy of training images, not augmented, at x = ``alphas[i]`` and y =
  ``alphas[j]``, without weight decay; None where it is not finite. The middle is the net's loss.
- **examples**: the number of images.

Batch norms use running statistics, which do not move with the weights (or batch statistics until these have settled).
Li et al. evaluate 51 by 51 places on all training images; ``SIDE`` by ``SIDE`` places on a few hundred show whether
there is one bowl. Traps: a random plane contains almost nothing of the path of training, and a plane that looks convex
shows nothing about other directions: see the instrument hessian. Show log losses: they span decades. Cost: ``SIDE``
squared forward passes of the set.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from resnet_jax import models
from resnet_jax.instruments.batches import whole_batches
from resnet_jax.instruments.observed import without_params
from resnet_jax.instruments.subject import Subject

DIRECTIONS = 1
SIDE = 11
EXTENT = 1.0


def measure(subject: Subject) -> dict[str, Any]:
    """Return "alphas", "losses" and "examples"."""
    alphas = np.linspace(-EXTENT, EXTENT, SIDE)
    params = subject.variables["params"]
    random = subject.random(DIRECTIONS)
    directions = [filter_normalised(params, random) for _ in range(2)]
    losses = [[mean_loss(subject, moved(params, directions, (x, y))) for y in alphas] for x in alphas]
    examples = sum(len(batch.labels) for batch in whole_batches(subject.train, subject.settings.batch))
    return {"alphas": alphas, "losses": losses, "examples": examples}


def filter_normalised(params: Any, random: np.random.Generator) -> Any:
    """Return a random direction like ``params``, each filter with the norm of its filter in ``params``."""

    def direction(leaf: np.ndarray) -> np.ndarray:
        if leaf.ndim < 2:
            return np.zeros_like(leaf)
        drawn = random.standard_normal(leaf.shape)
        axes = tuple(range(leaf.ndim - 1))
        of_filters, of_drawn = (np.sqrt(np.sum(each**2, axis=axes, keepdims=True)) for each in (leaf, drawn))
        return (drawn * of_filters / (of_drawn + 1e-10)).astype(leaf.dtype)

    # Block by block: alike blocks are stacked along an axis that does not belong to a filter.
    leaves = {path: direction(np.asarray(leaf)) for path, leaf in models.unstack(params).items()}
    return models.stack(leaves, params)


def moved(params: Any, directions: Sequence[Any], by: Sequence[float]) -> Any:
    """Return ``params`` moved along each of two ``directions`` by a factor."""
    (x, y), (one, other) = by, directions
    return jax.tree.map(lambda leaf, d, e: leaf + np.float32(x) * d + np.float32(y) * e, params, one, other)


def mean_loss(subject: Subject, params: Any) -> float:
    """Return the mean training loss of the net of ``subject`` with other ``params``."""
    others = without_params(subject.variables)
    batches = whole_batches(subject.train, subject.settings.batch)
    return float(
        np.mean([subject.net.loss(params, others, *batch, train=subject.uses_batch_statistics) for batch in batches])
    )
