"""Do gradients vanish, explode or shatter on the way back through the net?

For the output y of each block, on one batch in training mode:

- **norm**: the root mean square over images of ||dL/dy||, where L is the image's own loss; ``relative`` is the norm
  divided by the last block's. Theory for plain nets with batch norm and ReLU, wide and of large batches: the norm grows
  by sqrt(pi / (pi - 1)) = 1.211 a layer towards the input, their squares by 1.467 (Yang et al. 2019, arXiv 1902.08129,
  theorem 8).
- **a_layer**: this growth: the least-squares slope of the log of the norm over layers within the stages, since the size
  of the output changes between stages.
- **cosine**: the mean cosine over pairs of images of their rows of dL/dy (Balduzzi et al. 2017, arXiv 1702.08591:
  gradients of nearby inputs become unrelated, "shatter"). The loss makes even gradients at the last block differ
  between classes, so ``cosine_of_net`` has the same for one cotangent, drawn from N(0, 1), instead of the loss.

Rows of one image contain the share that batch norm carries over from its batch-mates. Batch norm makes gradients by
kernels scale as 1 / ||W||, so norms are comparable only with their step and net. Cost: two gradients of a batch.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax.instruments.observed import BlockArrays
from resnet_jax.instruments.subject import Subject

DRAW = 1


def measure(subject: Subject) -> dict[str, Any]:
    """Return "loss", "a_layer" and, for each block in forward order, "norm", "relative", "cosine", "cosine_of_net"."""
    net, (images, labels) = subject.net, subject.batch
    net.require_blocks(2)
    loss, gradients, _ = net.output_gradients(subject.variables, images, labels, train=True)
    cotangent = subject.random(DRAW).standard_normal(net.num_classes).astype(np.float32)
    of_net = net.cotangent_gradients(subject.variables, images, cotangent, train=True)
    norms = np.array([root_mean_square(gradients[block.name]) for block in net.blocks])
    return {
        "loss": loss,
        "norm": norms,
        "relative": norms / norms[-1],
        "a_layer": growth_within(norms, [block.stage for block in net.blocks]) ** (1 / net.convolutions_per_block),
        "cosine": cosines(gradients),
        "cosine_of_net": cosines(of_net),
    }


def growth_within(norms: np.ndarray, stages: Sequence[str]) -> float:
    """Return the factor by which ``norms`` grow from a block to the one before, within their ``stages``."""
    if not np.all(norms > 0):
        return math.nan
    members = [np.flatnonzero(np.array(stages) == stage) for stage in dict.fromkeys(stages)]
    places = np.concatenate([each - each.mean() for each in members])
    logs = np.concatenate([np.log(norms[each]) - np.log(norms[each]).mean() for each in members])
    return float(np.exp(-places @ logs / (places @ places))) if places.any() else math.nan


def root_mean_square(gradient: jax.Array) -> float:
    """Return the root mean square over images of the norms of the rows of ``gradient``, ``[images, ...]``."""
    rows = np.asarray(gradient, np.float64).reshape(len(gradient), -1)
    return float(np.sqrt(np.mean(np.sum(rows**2, axis=1))))


def cosines(gradients: BlockArrays) -> list[float]:
    """Return for each block the mean cosine over pairs of different images of their rows."""
    return [float(mean_cosine(gradient)) for gradient in gradients.values()]


def mean_cosine(rows: jax.Array) -> jax.Array:
    """Return the mean cosine over pairs of different rows of ``[rows, ...]``; rows of zeros count as unrelated."""
    flat = rows.reshape(len(rows), -1)
    norms = jnp.linalg.norm(flat, axis=1, keepdims=True)
    unit = flat / jnp.where(norms > 0, norms, 1)
    count = len(rows)
    # The squared norm of the sum of unit rows counts every pair twice and every row once.
    return (jnp.sum(jnp.sum(unit, axis=0) ** 2) - jnp.sum(unit**2)) / (count * (count - 1))
