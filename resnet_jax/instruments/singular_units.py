"""Are there units that do nothing, or the same as others?

Orhan and Pitkow (2018) trace the difficulty of training to singularities of the loss: units that are eliminated,
overlap or depend linearly leave flat directions, and shortcuts break these. Counts of such units:

- **dead**: the number of channels of each block's output that are 0 for all training images at all places, out of its
  **width**.
- **overlapping**: the number of pairs of filters of a convolution with |cos| > 0.95, a filter being all weights into
  one output channel, and the number of **filters**.
- **stable_rank**: ||K||_F^2 / ||K||_2^2 of each convolution's kernel K as a matrix, ``[height * width * inputs,
  filters]``: the number of directions over which it spreads; None where K is 0.

Kernels are as learned, before weight standardisation and its like. Dead channels use running statistics, or batch
statistics until these have settled. Traps: channels that a shortcut pads are 0 until a branch writes to them; outputs
that no ReLU follows are hardly ever dead; few inputs, such as the 9 of a first convolution of grey images, make filters
overlap by chance. Cost: a forward pass of the set.
"""

import math
from typing import Any

import numpy as np

from resnet_jax import models
from resnet_jax.instruments import features
from resnet_jax.instruments.observed import ObservedNet, Variables
from resnet_jax.instruments.subject import Subject

OVERLAPPING = 0.95


def measure(subject: Subject) -> dict[str, Any]:
    """Return "dead" and "width" of each block, and "overlapping", "filters" and "stable_rank" of each convolution.

    "convolutions" are their names in forward order; "images" is the number of images for "dead".
    """
    net, images = subject.net, subject.train.images
    net.require_blocks()
    largest = features.of_images(subject, images, lambda output: np.abs(output).max((1, 2)))
    kernels = convolutions(net, subject.variables)
    return {
        "dead": [int(np.sum(~channels.any(0))) for channels in largest.values()],
        "width": [block.shape[-1] for block in net.blocks],
        "images": len(images),
        "convolutions": list(kernels),
        "overlapping": [overlapping(kernel) for kernel in kernels.values()],
        "filters": [kernel.shape[-1] for kernel in kernels.values()],
        "stable_rank": [stable_rank(kernel) for kernel in kernels.values()],
    }


def convolutions(net: ObservedNet, variables: Variables) -> dict[str, np.ndarray]:
    """Return the kernels of all convolutions, ``[height, width, inputs, filters]``, by their names in forward order."""
    leaves = models.unstack(variables["params"])
    paths = [(*layer.name.split("/"), "kernel") for layer in models.walk(net.model, net.image_shape)]
    return {"/".join(path[:-1]): np.asarray(leaves[path]) for path in paths if np.ndim(leaves.get(path, 0)) == 4}


def matrix_of(kernel: np.ndarray) -> np.ndarray:
    """Return ``kernel`` in float64 with a column for each filter."""
    return kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)


def overlapping(kernel: np.ndarray) -> int:
    """Return the number of pairs of filters alike up to sign and size; filters of zeros do not count."""
    matrix = matrix_of(kernel)
    norms = np.linalg.norm(matrix, axis=0)
    unit = matrix / np.where(norms > 0, norms, 1)
    return int(np.sum(np.triu(np.abs(unit.T @ unit) > OVERLAPPING, k=1)))


def stable_rank(kernel: np.ndarray) -> float:
    """Return the sum of the squared singular values over the largest square."""
    squares = np.linalg.svd(matrix_of(kernel), compute_uv=False) ** 2
    return float(squares.sum() / squares[0]) if squares[0] else math.nan
