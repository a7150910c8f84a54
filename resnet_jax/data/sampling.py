"""Which examples a step sees: a function of seed and step only.

The stream of training examples is one permutation of the training set after another. So a resumed run, or a run on
other devices, sees the same examples in the same order.
"""

import functools
import math
from collections.abc import Iterator

import numpy as np

# Keeps these draws apart from others made from the same seed.
_ORDER = 0x0DE5
# The most steps whose batches are drawn at once.
MOST_STEPS = 10_000


@functools.lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, examples: int) -> np.ndarray:
    """Return the permutation of ``[0, examples)`` in which ``epoch`` visits the training set."""
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(examples).astype(np.int32)


def batch_indices(seed: int, steps: range, batch_size: int, examples: int) -> np.ndarray:
    """Return the training examples of each of ``steps``, counted from 0: int32 ``[steps, batch_size]``.

    A batch that crosses the end of an epoch continues with the next, so every epoch visits each example exactly once.
    """
    start, stop = steps.start * batch_size, steps.stop * batch_size
    epochs = range(start // examples, (stop - 1) // examples + 1)
    stream = np.concatenate([epoch_order(seed, epoch, examples) for epoch in epochs])
    start -= epochs.start * examples
    return stream[start : start + len(steps) * batch_size].reshape(-1, batch_size)


def evaluation_size(batch_size: int, examples: int, devices: int) -> int:
    """Return ``batch_size`` rounded up to a multiple of ``devices``, but no more than ``examples`` need.

    So a huge batch is not mostly padding.
    """
    return math.ceil(min(batch_size, examples) / devices) * devices


def evaluation_batches(split: range, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield ``(indices, weights)`` that visit the examples of ``split`` once, in batches of equal size.

    Both are ``[batch_size]``, int32 and float32. The weight of an example is 1; the last batch is padded with
    examples of weight 0.
    """
    for start in range(split.start, split.stop, batch_size):
        indices = np.arange(start, start + batch_size, dtype=np.int32)
        yield np.minimum(indices, split.stop - 1), (indices < split.stop).astype(np.float32)
