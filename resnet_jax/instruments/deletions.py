"""Does a net depend on each of its blocks, and on their order?

Lesions of the trained net, without further training (Veit, Wilber and Belongie 2016, arXiv 1605.06431, section 4):
errors on training and test images with

- **deleted**: each block deleted in turn, its output its shortcut; in a plain net its input (option A).
  ``changes_shape`` marks blocks whose output has another shape than their input: after a stride or a change of width
  the shortcut is not the input. ``deleted_by_batch`` is the same with the statistics of each batch, since running
  statistics after a lesion still describe the whole net.
- **several**: 2, 4, 8, ... random blocks deleted, in ``DRAWS`` different draws, or in all if there are fewer.
- **swapped**: 1, 2, 4, ... random swaps of two blocks of one stage with variables of equal shapes, in ``DRAWS`` draws.
  ``tau`` is Kendall's tau of the resulting order of all blocks, 1 where swaps undo each other.

A deletion removes the bias of the branch too. A net near chance before the lesion shows nothing. ``error`` and
``deleted`` cover all images, a last batch that is not full being filled up with the first images, which do not count
again; the rest covers the first batch of each split. All lesions are one compiled program, with batch statistics
another. Cost for n blocks: n passes of the set, and of a batch of each split 5 log2 n (deletions), 5 log2 n (swaps) and
n (by batch).
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from resnet_jax import models
from resnet_jax.instruments.observed import ObservedNet, Variables
from resnet_jax.instruments.subject import Images, Subject
from resnet_jax.models.gates import COLLECTION, DELETED
from resnet_jax.models.stacking import Path, is_block

DRAWS = 5
# Purposes of random numbers.
DELETE, SWAP = 11, 12


class Batch(NamedTuple):
    """Images, their labels, and whether each image counts or only fills up the batch."""

    images: np.ndarray
    labels: np.ndarray
    counts: np.ndarray


# By the name of the split.
Splits = dict[str, list[Batch]]


def measure(subject: Subject) -> dict[str, Any]:
    """Return errors before and after lesions, by split; lists over blocks are in forward order.

    "changes_shape", "error", "deleted"; with running statistics also "error_by_batch" and "deleted_by_batch";
    "several", a list of {"blocks", "errors"}, and "swapped", of {"swaps", "tau", "errors"}, lists over draws.

    Raises:
      UserError: the blocks of the net have no shortcuts.
    """
    net, size, by_batch = subject.net, subject.settings.batch, subject.uses_batch_statistics
    net.require_blocks(2)
    splits = {"train": batches(subject.train, size), "test": batches(subject.test, size)}
    few = {split: of_split[:1] for split, of_split in splits.items()}
    whole = net.gated(subject.variables, {})  # With gates, so that it and all lesions are one program.
    deleted = [net.gated(whole, {block.name: DELETED}) for block in net.blocks]
    result = {
        "changes_shape": changes_shape(net),
        "error": error(net, whole, splits, by_batch),
        "deleted": errors(net, deleted, splits, by_batch),
        "several": several(subject, whole, few),
        "swapped": swapped(subject, whole, few),
    }
    if not by_batch:
        result["error_by_batch"] = error(net, whole, few, train=True)
        result["deleted_by_batch"] = errors(net, deleted, few, train=True)
    return result


def several(subject: Subject, whole: Variables, splits: Splits) -> list[dict[str, Any]]:
    """Return the errors after deletions of several random blocks of the net with variables ``whole``."""
    net, random = subject.net, subject.random(DELETE)
    names = [block.name for block in net.blocks]
    results = []
    for count in doubling(2, len(names)):
        draws: set[tuple[str, ...]] = set()
        while len(draws) < min(DRAWS, math.comb(len(names), count)):
            draws.add(tuple(sorted(random.choice(names, count, replace=False).tolist())))
        lesions = [net.gated(whole, dict.fromkeys(draw, DELETED)) for draw in sorted(draws)]
        results.append({"blocks": count, "errors": errors(net, lesions, splits, subject.uses_batch_statistics)})
    return results


def swapped(subject: Subject, whole: Variables, splits: Splits) -> list[dict[str, Any]]:
    """Return Kendall's tau and the errors after random swaps of blocks; empty if there are no two alike blocks."""
    net, random = subject.net, subject.random(SWAP)
    pairs = exchangeable(net, whole)
    results = []
    for swaps in doubling(1, len(net.blocks)) if pairs else ():
        orders = [swap(random.choice(pairs, swaps), len(net.blocks)) for _ in range(DRAWS)]
        lesions = [reordered(net, whole, order) for order in orders]
        tau = [scipy.stats.kendalltau(range(len(order)), order).statistic for order in orders]
        results.append(
            {"swaps": swaps, "tau": tau, "errors": errors(net, lesions, splits, subject.uses_batch_statistics)}
        )
    return results


def doubling(first: int, end: int) -> list[int]:
    """Return ``first`` times 1, 2, 4 and so on, below ``end``."""
    return list(itertools.takewhile(lambda count: count < end, (first * 2**power for power in itertools.count())))


def exchangeable(net: ObservedNet, variables: Variables) -> list[tuple[int, int]]:
    """Return the places of all pairs of blocks of one stage whose variables have equal shapes."""
    leaves = own_leaves(net, variables)
    kinds = [
        (block.stage, {path: leaf.shape for path, leaf in own.items()})
        for block, own in zip(net.blocks, leaves, strict=True)
    ]
    return [pair for pair in itertools.combinations(range(len(kinds)), 2) if kinds[pair[0]] == kinds[pair[1]]]


def swap(pairs: np.ndarray, count: int) -> np.ndarray:
    """Return the order of ``count`` blocks after swaps of the blocks at the places ``pairs``, ``[swaps, 2]``."""
    order = np.arange(count)
    for first, second in pairs:
        order[[first, second]] = order[[second, first]]
    return order


def reordered(net: ObservedNet, variables: Variables, order: np.ndarray) -> Variables:
    """Return ``variables`` with block ``order[i]``, except its gate, at the place of block i."""
    own = own_leaves(net, variables)
    leaves = models.unstack(variables)
    for block, source in zip(net.blocks, order, strict=True):
        name = tuple(block.name.split("/"))
        leaves |= {(collection, *name, *path): leaf for (collection, *path), leaf in own[source].items()}
    return models.stack(leaves, like=variables)


def own_leaves(net: ObservedNet, variables: Variables) -> list[dict[Path, np.ndarray]]:
    """Return for each block its leaves without its gate, by collection and path in the block."""
    places = {tuple(block.name.split("/")): place for place, block in enumerate(net.blocks)}
    own: list[dict[Path, np.ndarray]] = [{} for _ in places]
    for path, leaf in models.unstack(variables).items():
        place = places.get(path[1:3])
        if place is not None and path[0] != COLLECTION:
            own[place][path[0], *path[3:]] = leaf
    return own


def changes_shape(net: ObservedNet) -> list[bool]:
    """Return for each block whether its output has another shape than its input."""
    changes: dict[Path, bool] = {}

    def watch(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output, module = call(*args, **kwargs), context.module
        if context.method_name == "__call__" and module.path and is_block(module.path):
            changes[module.path] = args[0].shape != output.shape
        return output

    images = jax.ShapeDtypeStruct((1, *net.image_shape), jnp.float32)
    with nn.intercept_methods(watch):
        jax.eval_shape(lambda images: net.model.init(jax.random.key(0), images, train=False), images)
    return [changes[block.path] for block in net.blocks]


def batches(images: Images, size: int) -> list[Batch]:
    """Return ``images`` in batches of ``size``; the last is filled up with the first images, which do not count."""
    count = len(images.labels)
    places = np.arange(-(-count // size) * size)
    return [
        Batch(images.images[part % count], images.labels[part % count], part < count)
        for part in np.split(places, len(places) // size)
    ]


def errors(net: ObservedNet, lesions: Sequence[Variables], splits: Splits, train: bool) -> dict[str, list[float]]:
    """Return for each split the net's errors with each of ``lesions``, its variables with gates."""
    found = [error(net, variables, splits, train) for variables in lesions]
    return {split: [each[split] for each in found] for split in splits}


def error(net: ObservedNet, variables: Variables, splits: Splits, train: bool) -> dict[str, float]:
    """Return for each split the share of its images that the net with ``variables`` misclassifies."""
    return {
        split: sum(int(count_misclassified(net, variables, batch, train)) for batch in of_split)
        / sum(int(batch.counts.sum()) for batch in of_split)
        for split, of_split in splits.items()
    }


@functools.partial(jax.jit, static_argnames=("net", "train"))
def count_misclassified(net: ObservedNet, variables: Variables, batch: Batch, train: bool) -> jax.Array:
    """Return the number of misclassified images in ``batch``; compiled once for all lesions of a net."""
    is_wrong = jnp.argmax(net.logits_of(variables, jnp.asarray(batch.images), train), axis=-1) != batch.labels
    return jnp.sum(is_wrong & batch.counts)
