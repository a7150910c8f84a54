"""Do mini-batches disagree about where to go?

Of the gradients g_i by the parameters of 24 mini-batches of training images, in training mode, without weight decay:

- **minimum**, **median** and **negative**, the share below 0, of the cosines of the 276 pairs. Gradient confusion
  (Sankararaman et al. 2020) bounds the inner products of pairs from below; they show the minimum and the density of the
  cosine over 100 pairs of batches of 128 (section 7).
- **noise**: the signal in one gradient over its noise, |E g|^2 / tr Cov g, for batches of this size. The inner product
  of independent gradients has the mean |E g|^2, so it is estimated without bias, and may come out below 0.
- **by_stage**: the same of the parameters of the stem, of each stage and of the head.

The batches are consecutive pieces of random orders of the images, so that batches of one order share none. Where the
images do not suffice for 24 such batches there are several orders, and batches of two of them share images, which
raises their cosine by about that share: **shared** is its mean over the pairs. **apart** and the noise are of the pairs
that share none.

Traps: near a loss of 0 the cosines are those of the noise of labels. A layer whose gradient has exploded dominates the
cosine of all parameters: read the stages. Cost: 24 gradients, which are all held in memory.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.instruments.net import Net
from resnet_jax.instruments.subject import Subject

ORDERS = 2
BATCHES = 24


def measure(subject: Subject) -> dict[str, Any]:
    """Return "minimum", "median", "negative", "noise", "apart", "by_stage", "pairs" and "shared"."""
    net = subject.net
    members = batches(len(subject.train.labels), subject.settings.batch, subject.random(ORDERS))
    if np.array_equal(*(np.sort(members[each]) for each in (0, -1))):
        raise UserError(f"for {net.title} all batches would be of the same images; give more --examples than --batch")
    shared = np.array([[len(np.intersect1d(one, other)) for other in members] for one in members]) / members.shape[1]
    products = inner_products(net, list(gradients(subject, members)))
    pairs = np.triu_indices(BATCHES, 1)
    return {
        **agreement(sum(products.values()), shared),
        "by_stage": {stage: agreement(each, shared) for stage, each in products.items()},
        "pairs": len(pairs[0]),
        "shared": float(np.mean(shared[pairs])),
    }


def batches(examples: int, size: int, random: np.random.Generator) -> np.ndarray:
    """Return the places ``[BATCHES, size]`` of the images of each batch, of ``examples`` at most if these are fewer."""
    size = min(size, examples)
    pieces = examples // size
    orders = [random.permutation(examples)[: pieces * size].reshape(pieces, size) for _ in range(-(-BATCHES // pieces))]
    return np.concatenate(orders)[:BATCHES]


def gradients(subject: Subject, members: np.ndarray) -> Iterator[Any]:
    """Yield the gradient by the parameters of each batch of ``members``, on the host."""
    params = subject.variables["params"]
    others = {name: each for name, each in subject.variables.items() if name != "params"}
    for places in members:
        images, labels = subject.train.images[places], subject.train.labels[places]
        yield jax.device_get(subject.net.gradient(params, others, images, labels, train=True)[1])


def inner_products(net: Net, trees: list[Any]) -> dict[str, np.ndarray]:
    """Return the matrix of inner products of the gradients ``trees`` for each stage in forward order."""
    names = dict.fromkeys(layer.path[0] for layer in models.walk(net.model, net.image_shape))

    def matrix(*leaves: np.ndarray) -> np.ndarray:
        rows = np.stack([leaf.ravel() for leaf in leaves]).astype(np.float64)
        return rows @ rows.T

    return {
        name: sum(matrix(*leaves) for leaves in zip(*(jax.tree.leaves(tree[name]) for tree in trees), strict=True))
        for name in names
        if name in trees[0]
    }


def agreement(products: np.ndarray, shared: np.ndarray) -> dict[str, Any]:
    """Return the statistics of gradients with the inner ``products`` whose batches share so much, ``[batches] * 2``."""
    pairs = np.triu_indices(len(products), 1)
    norms = np.sqrt(np.diag(products))
    # A gradient of zeros, as of a frozen or dead stage, agrees with none.
    cosines = products[pairs] / np.maximum(np.outer(norms, norms)[pairs], np.finfo(float).tiny)
    apart = shared[pairs] == 0
    signal = np.mean(products[pairs][apart]) if apart.any() else np.nan
    variance = np.mean(np.diag(products)) - signal
    return {
        **distribution(cosines),
        "noise": signal / variance if variance > 0 else np.nan,
        "apart": distribution(cosines[apart]) if apart.any() else None,
    }


def distribution(cosines: np.ndarray) -> dict[str, float]:
    """Return the minimum, the median and the share below 0 of ``cosines``."""
    return {"minimum": np.min(cosines), "median": np.median(cosines), "negative": np.mean(cosines < 0)}
