"""Outputs of the blocks on a set of images, batch by batch."""

from collections.abc import Callable, Iterator

import numpy as np

from resnet_jax.instruments.subject import Subject

# Arrays on the host by the names of blocks, in forward order.
Features = dict[str, np.ndarray]
# From outputs ``[batch, height, width, channels]`` to ``[batch, ...]``.
Reduce = Callable[[np.ndarray], np.ndarray]


def batches(count: int, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the indices of each batch's images out of ``count``, int ``[batch]``, and the number of new images.

    All batches have one size, because each size is compiled for: the last is filled up with the first images, so that
    batch statistics are statistics of images too.
    """
    size = min(size, count)
    for start in range(0, count, size):
        yield np.arange(start, start + size) % count, min(size, count - start)


def of_images(subject: Subject, images: np.ndarray, reduce: Reduce) -> Features:
    """Return each block's output on ``images`` after ``reduce``, ``[images, ...]``.

    One forward pass of the set, with batch statistics if ``subject.uses_batch_statistics``.
    """
    parts: list[Features] = []
    for chosen, new in batches(len(images), subject.settings.batch):
        _, outputs = subject.net.outputs(subject.variables, images[chosen], train=subject.uses_batch_statistics)
        parts.append({name: reduce(np.asarray(output))[:new] for name, output in outputs.items()})
    return {block.name: np.concatenate([part[block.name] for part in parts]) for block in subject.net.blocks}


def averaged(output: np.ndarray) -> np.ndarray:
    """Return the means of channels over places, ``[batch, channels]``."""
    return output.mean((1, 2))


def flattened(output: np.ndarray) -> np.ndarray:
    """Return whole maps as rows, ``[batch, height * width * channels]``."""
    return output.reshape(len(output), -1)


def centred(rows: np.ndarray) -> np.ndarray:
    """Return ``rows`` in float64 less their mean; zeros where they differ by no more than float32 resolves."""
    precise = rows.astype(np.float64)
    deviations = precise - precise.mean(0)
    resolved = np.finfo(np.float32).eps * np.linalg.norm(precise)
    return deviations if np.linalg.norm(deviations) > resolved else np.zeros_like(deviations)
