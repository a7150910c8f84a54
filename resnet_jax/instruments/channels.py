"""Do channels mean the same from block to block, and what do filters look like?

Chu, Yang and Tadinada (2017, arXiv 1701.02362) compare the filters of an ImageNet ResNet by eye: within a stage, where
shortcuts join channels of equal index, layers refine features. Here this is a number. For the shortcut S of a block and
its output y, on a batch:

- **same**: the correlation of a channel of S with the channel of y of equal index, over images and places, averaged
  over channels.
- **other**: the same with the next channel of y, the control without correspondence.

Channels that do not vary, such as padded ones, are left out; None if no channel is left. In a plain net S is the
identity that it lacks, so "same" is near "other" there. Between stages S is subsampled, with option A padded.

Pictures, each scaled to a largest absolute value of 1 and rounded to 4 decimals:

- **stem_filters**: the filters of the first convolution, ``[filters, height, width, inputs]``, the first 64.
- **channel_filters**: for a few **channels** of each stage, by index, the filter from a channel of each block's input
  to the same channel of its branch, ``[channels, blocks, side, side]``: the branch's convolutions one after the other,
  without the norms and ReLUs between them, summed over hidden channels. Filters count with norm 1, since norms cancel
  their size. Blocks that change the width do not have one, nor do parallel branches.

Kernels are as learned, before weight standardisation and its like. Functions of the net use running statistics, or
batch statistics until these have settled; nets of stochastic depth are then refused. Cost: two forward passes of a
batch.
"""

import functools
import itertools
import math
from typing import Any

import numpy as np

from resnet_jax.instruments.observed import Block
from resnet_jax.instruments.singular_units import convolutions
from resnet_jax.instruments.subject import Subject

STEM_FILTERS = 64
CHANNELS = 4
DECIMALS = 4


def measure(subject: Subject) -> dict[str, Any]:
    """Return "same" and "other" of each block in forward order, "stem_filters", "channel_filters" and "channels".

    Raises:
      UserError: branch and shortcut of the net cannot be separated, or it has none.
    """
    net, images = subject.net, subject.batch.images
    net.require_blocks()
    _, outputs = net.outputs(subject.variables, images, train=subject.uses_batch_statistics)
    same, other = [], []
    for block, parts in net.parts(subject.variables, images, train=subject.uses_batch_statistics):
        output = np.asarray(outputs[block.name])
        same.append(correlation(parts.shortcut, output))
        other.append(correlation(parts.shortcut, np.roll(output, -1, axis=-1)))
    drawn = pictures(subject)
    stages = {block.stage: block.shape[-1] for block in net.blocks if block.stage in drawn}
    return {
        "same": same,
        "other": other,
        "stem_filters": drawn["stem"],
        "channel_filters": {stage: drawn[stage] for stage in stages},
        "channels": {stage: spaced(width) for stage, width in stages.items()},
    }


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean over channels of the correlation of ``a`` with ``b``, ``[images, height, width, channels]``."""
    a, b = (each.reshape(-1, each.shape[-1]).astype(np.float64) for each in (a, b))
    a, b = a - a.mean(0), b - b.mean(0)
    norms = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    varies = norms > 0
    return float(np.mean(np.sum(a * b, axis=0)[varies] / norms[varies])) if varies.any() else math.nan


def pictures(subject: Subject) -> dict[str, np.ndarray]:
    """Return the filters to show: "stem" ``[filters, height, width, inputs]``, and each stage's by its name.

    Filters of a stage are ``[channels, blocks, side, side]``, for the channels ``spaced`` over its width.
    """
    kernels = convolutions(subject.net, subject.variables)
    first = next(iter(kernels.values()))
    drawn = {"stem": scaled(np.moveaxis(first[..., :STEM_FILTERS], -1, 0), (1, 2, 3))}
    for stage, blocks in itertools.groupby(subject.net.blocks, lambda block: block.stage):
        branches = [branch for block in blocks if is_chain(branch := branch_of(kernels, block))]
        if branches:
            filters = np.stack([own_filters(branch) for branch in branches], axis=1)
            drawn[stage] = scaled(filters, (2, 3))
    return drawn


def branch_of(kernels: dict[str, np.ndarray], block: Block) -> list[np.ndarray]:
    """Return the kernels of ``block``'s branch in forward order; an empty list for parallel branches."""
    return [kernel for name, kernel in kernels.items() if name.startswith(f"{block.name}/conv")]


def is_chain(branch: list[np.ndarray]) -> bool:
    """Return whether each convolution's output width is the next one's input width, the last's the first's."""
    widths = [
        (kernel.shape[3], after.shape[2]) for kernel, after in zip(branch, [*branch[1:], *branch[:1]], strict=True)
    ]
    return bool(branch) and all(gives == takes for gives, takes in widths)


def own_filters(branch: list[np.ndarray]) -> np.ndarray:
    """Return the filter of ``branch`` from each of a few channels to itself, ``[channels, side, side]``."""
    chosen = spaced(branch[0].shape[2])
    side = 1 + sum(len(kernel) - 1 for kernel in branch)
    unit = [kernel / np.sqrt(np.sum(kernel**2, axis=(0, 1, 2))).clip(np.finfo(np.float32).tiny) for kernel in branch]
    unit[0] = unit[0][:, :, chosen]
    unit[-1] = unit[-1][..., chosen]
    # Convolutions one after the other multiply their spectra; spectra of the final side do not wrap around.
    spectra = [np.fft.fft2(kernel, (side, side), axes=(0, 1)) for kernel in unit]
    whole = np.fft.ifft2(functools.reduce(np.matmul, spectra), axes=(0, 1)).real
    return np.moveaxis(np.diagonal(whole, axis1=2, axis2=3), -1, 0)


def spaced(width: int) -> list[int]:
    """Return the indices of up to ``CHANNELS`` channels, spaced out over ``width``."""
    return np.unique(np.linspace(0, width - 1, CHANNELS).astype(int)).tolist()


def scaled(filters: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return ``filters`` divided by their largest absolute values over ``axes``, rounded."""
    largest = np.abs(filters).max(axes, keepdims=True)
    return np.round(filters.astype(np.float64) / np.where(largest > 0, largest, 1), DECIMALS)
