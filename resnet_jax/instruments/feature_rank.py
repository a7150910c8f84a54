"""Do images become alike on the way through the net?

For the outputs of each block on up to 256 training images, whole maps as rows:

- **rank**: exp(H(p)) with p = s^2 / sum(s^2), s the singular values of the rows less their mean and H the entropy: the
  number of directions over which images spread. At most the number of images less 1 and the size of the map; 0 where
  all images have the same output.
- **cosine**: the mean cosine between rows of different images, not centred, since cosines of centred rows add up to a
  constant. After a ReLU no cosine is negative; at 1 all images have the same output but for its size. Images without
  any output count as unrelated.

Functions of the net use running statistics, or batch statistics until these have settled. Trap: a well-trained net ends
near the number of classes less 1, which is not a collapse. Cost: a forward pass of the images.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.stats

from resnet_jax.instruments import features
from resnet_jax.instruments.gradients import mean_cosine
from resnet_jax.instruments.subject import Subject

IMAGES = 256


def measure(subject: Subject) -> dict[str, Any]:
    """Return "rank" and "cosine" of each block in forward order, and the number of "images"."""
    subject.net.require_blocks()
    images = subject.train.first(IMAGES).images
    outputs = features.of_images(subject, images, features.flattened)
    return {
        "rank": [entropy_rank(rows) for rows in outputs.values()],
        "cosine": [float(mean_cosine(jnp.asarray(rows))) for rows in outputs.values()],
        "images": len(images),
    }


def entropy_rank(rows: np.ndarray) -> float:
    """Return the exponential of the entropy of the spectrum of ``rows``, ``[images, features]``, less their mean."""
    deviations = features.centred(rows)
    # The squares of the singular values are the eigenvalues of the Gram matrix, which is small.
    spectrum = np.linalg.eigvalsh(deviations @ deviations.T).clip(0)
    return float(np.exp(scipy.stats.entropy(spectrum))) if spectrum.any() else 0.0
