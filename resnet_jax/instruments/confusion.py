"""Do mini-batches disagree about where to go?

For the parameter gradients g_i of ``BATCHES`` mini-batches of training images, in training mode, without weight decay:

- **minimum**, **median** and **negative**, the share below 0, of the cosines of pairs that share no image; **pairs** is
  their number. Gradient confusion (Sankararaman et al. 2020) bounds the inner products of pairs from below; they show
  the minimum and the density of the cosine over 100 pairs of batches of 128 (section 7).
- **noise**: the signal-to-noise ratio |E g|^2 / tr Cov g of one gradient, for batches of this size. The inner product
  of independent gradients has the mean |E g|^2, so the estimate is unbiased and can be below 0.
- **by_stage**: the same for the parameters of the stem, of each stage and of the head.

The batches are consecutive pieces of random orders of the images, as many orders as needed. Only pairs of one order
count: batches that share a fifth of their images have cosines higher by about a fifth, which hides disagreement. With
images for all batches all 276 pairs count; with 512 images, in batches of 128, 36.

Traps: near a loss of 0 the cosines show the noise of labels. A layer whose gradient has exploded dominates the cosine
of all parameters: read the stages. Cost: 24 gradients, all held in memory.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.instruments.observed import ObservedNet, without_params
from resnet_jax.instruments.subject import Subject

ORDERS = 2
BATCHES = 24


def measure(subject: Subject) -> dict[str, Any]:
    """Return "minimum", "median", "negative", "noise", "by_stage" and "pairs"."""
    net, examples = subject.net, len(subject.train.labels)
    if examples < 2 * subject.settings.batch:
        raise UserError(f"{examples} images do not make two batches for {net.title}; give more --examples")
    members, pairs = batches(examples, subject.settings.batch, subject.random(ORDERS))
    products = inner_products(net, list(gradients(subject, members)))
    return {
        **agreement(np.sum(list(products.values()), axis=0), pairs),
        "by_stage": {stage: agreement(each, pairs) for stage, each in products.items()},
        "pairs": int(pairs.sum()),
    }


def batches(examples: int, size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices ``[BATCHES, size]`` of each batch's images, and a mask of the pairs that share no image.

    The mask ``[BATCHES, BATCHES]`` is true above the diagonal where both batches are pieces of one order.
    """
    pieces = examples // size
    orders = [random.permutation(examples)[: pieces * size].reshape(pieces, size) for _ in range(-(-BATCHES // pieces))]
    order = np.arange(BATCHES) // pieces
    return np.concatenate(orders)[:BATCHES], np.triu(order[:, None] == order[None], 1)


def gradients(subject: Subject, members: np.ndarray) -> Iterator[Any]:
    """Yield the gradient by the parameters of each batch of ``members``, on the host."""
    params = subject.variables["params"]
    others = without_params(subject.variables)
    for places in members:
        images, labels = subject.train.images[places], subject.train.labels[places]
        yield jax.device_get(subject.net.gradient(params, others, images, labels, train=True)[1])


def inner_products(net: ObservedNet, trees: list[Any]) -> dict[str, np.ndarray]:
    """Return the matrix of inner products of the gradients ``trees`` for each stage in forward order."""
    names = dict.fromkeys(layer.path[0] for layer in models.walk(net.model, net.image_shape))

    def rows(name: str) -> Iterator[np.ndarray]:
        for leaves in zip(*(jax.tree.leaves(tree[name]) for tree in trees), strict=True):
            yield np.stack([leaf.ravel() for leaf in leaves]).astype(np.float64)

    return {name: np.sum([each @ each.T for each in rows(name)], axis=0) for name in names if name in trees[0]}


def agreement(products: np.ndarray, pairs: np.ndarray) -> dict[str, float]:
    """Return the statistics of ``pairs``, a mask, of gradients with the inner ``products``, both ``[batches] * 2``."""
    norms = np.sqrt(np.diag(products))
    # A gradient of zeros, such as a frozen or dead stage's, agrees with no other.
    cosines = products[pairs] / np.maximum(np.outer(norms, norms)[pairs], np.finfo(float).tiny)
    signal = np.mean(products[pairs])
    variance = np.mean(np.diag(products)) - signal
    return {
        "minimum": np.min(cosines),
        "median": np.median(cosines),
        "negative": np.mean(cosines < 0),
        "noise": signal / variance if variance > 0 else np.nan,
    }
