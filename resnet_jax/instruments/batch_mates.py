"""Is what the net makes of an image its own, or that of the images it shares a batch with?

The first quarter of a batch of training images is kept, and the others are exchanged for other training images. In
training mode batch norm makes all outputs depend on all images. For the output y of each block, and y' that after the
exchange:

- **sensitivity**: ||y - y'|| / ||y - m||, both norms over the kept images, places and channels, where m is the mean of
  the whole first batch at each place and channel. 0 says that batch-mates do not matter, sqrt(2) that y and y' have no
  more in common than outputs of two images. It is what grows forward where gradients explode backward; no publication
  of it is known to us.

Dropout and stochastic depth draw the same for both batches. Traps: large batches shrink it, so a result says its
"batch"; where all outputs of a batch are the same, there is nothing to divide by, and it is None. Nets whose norms are
not over batches have 0. Cost: two forward passes of a batch.
"""

import math
from typing import Any

import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.instruments.subject import Subject

KEPT = 1 / 4


def measure(subject: Subject) -> dict[str, Any]:
    """Return "sensitivity" of each block in forward order, "batch", the images of one, and "kept", those in both."""
    net, images, batch = subject.net, subject.train.images, subject.settings.batch
    net.require_blocks()
    kept = max(1, int(KEPT * batch))
    needed = 2 * batch - kept
    if len(images) < needed:
        raise UserError(
            f"{net.title} needs {needed} training images for two batches of {batch}, and has {len(images)}; "
            "give more --examples or a smaller --batch"
        )
    exchanged = np.concatenate([images[:kept], images[batch:needed]])
    _, outputs = net.outputs(subject.variables, images[:batch], train=True)
    _, others = net.outputs(subject.variables, exchanged, train=True)
    ratios = [sensitivity(np.asarray(outputs[each.name]), np.asarray(others[each.name]), kept) for each in net.blocks]
    return {"sensitivity": ratios, "batch": batch, "kept": kept}


def sensitivity(output: np.ndarray, other: np.ndarray, kept: int) -> float:
    """Return how far the first ``kept`` images of ``[batch, ...]`` move, by how far they are from the batch's mean."""
    precise = output.astype(np.float64)
    spread = np.linalg.norm(precise[:kept] - precise.mean(0))
    return float(np.linalg.norm(precise[:kept] - other[:kept]) / spread) if spread else math.nan
