"""How much does a block add to its shortcut?

For the branch F and the shortcut S of each block, before they are added, on one batch:

- **ratio**: ||F|| / ||S|| of an image, the mean over images whose shortcut is not zero (Jastrzebski et al. 2017, arXiv
  1710.04773: it falls over depth).
- **share**: Var F / (Var F + Var S), over all images, pixels and channels.

Batch norms decide both at step 0: a norm gives F the variance 1 while S sums the outputs of the blocks below. So the
change from step 0 shows "near the identity", not the value. After a change of shape the zeros that option A pads with
make Var S small. In a plain net S, its input, is not added (``is_added``): 0.746 = 1 / (1 + 1/2 - 1/(2 pi)) compares F
with the ReLU of another such F. Gains of the branch that training learns count as part of F.

Functions of the net are taken with running statistics once they are settled. Cost: a forward pass.
"""

from typing import Any

import numpy as np

from resnet_jax.instruments.subject import Subject


def measure(subject: Subject) -> dict[str, Any]:
    """Return "is_added", and "ratio" and "share" of each block in forward order.

    Raises:
      UserError: branch and shortcut of the net cannot be separated.
    """
    parts = subject.net.parts(subject.variables, subject.batch.images, train=subject.uses_batch_statistics)
    pairs = [(ratio(branch, shortcut), share(branch, shortcut)) for _, (branch, shortcut) in parts]
    return {
        "is_added": subject.net.is_residual,
        "ratio": [first for first, _ in pairs],
        "share": [second for _, second in pairs],
    }


def ratio(branch: np.ndarray, shortcut: np.ndarray) -> float:
    """Return the mean ratio of the norms of ``branch`` and ``shortcut``, ``[images, ...]``; NaN without shortcuts."""
    norms = [np.linalg.norm(np.asarray(part, np.float64).reshape(len(part), -1), axis=1) for part in (branch, shortcut)]
    there = norms[1] > 0
    return float(np.mean(norms[0][there] / norms[1][there])) if there.any() else float("nan")


def share(branch: np.ndarray, shortcut: np.ndarray) -> float:
    """Return the share of ``branch`` in the sum of the variances of both; NaN if both are constant."""
    variances = np.var(branch, dtype=np.float64), np.var(shortcut, dtype=np.float64)
    return float(variances[0] / sum(variances)) if sum(variances) > 0 else float("nan")
