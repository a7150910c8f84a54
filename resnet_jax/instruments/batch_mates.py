"""How much do an image's features depend on the rest of its batch?

The first quarter of a batch of training images is kept, and the others are exchanged for other training images. In
training mode batch norm makes all outputs depend on all images. For each block's output y before the exchange and y'
after it:

- **sensitivity**: ||y - y'|| / ||y - m||, both norms over the kept images, places and channels, where m is the mean of
  the whole first batch at each place and channel. At 0 batch-mates do not matter; at sqrt(2) y and y' have no more in
  common than outputs of two images. It grows forward where gradients explode backward; we know of no publication of it.

Dropout and stochastic depth draw the same for both batches. Traps: large batches shrink it, so a result contains its
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
    """Return "sensitivity" of each block in forward order, the "batch" size, and "kept", the number of images kept."""
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
    """Return the distance by which the first ``kept`` of ``[batch, ...]`` move over their distance from the mean."""
    precise = output.astype(np.float64)
    spread = np.linalg.norm(precise[:kept] - precise.mean(0))
    return float(np.linalg.norm(precise[:kept] - other[:kept]) / spread) if spread else math.nan
