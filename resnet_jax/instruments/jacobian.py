"""How sensitive are the logits to the image?

For the Jacobian J of the logits by the normalised image, over one batch of training images:

- **sigma_max**: its largest singular value, by power iteration on J^T J; a slight underestimate where **change**, the
  relative change over the last iteration, is small.
- **frobenius**: ||J||_F = sqrt(sum of sigma^2), by E ||J^T u||^2 = ||J||_F^2 over Gaussian u.
- **stable_rank**: ||J||_F^2 / sigma_max^2, between 1 and the rank: the logits do not all depend on one direction of the
  image. In a net with dynamical isometry all singular values are near 1 and it is near the number of classes; nets with
  ReLU cannot have that (Pennington et al. 2017, abstract).

With running statistics images do not affect each other's logits, and each has its own J: sigma_max is then the mean
over images, frobenius the root mean square, stable_rank the ratio of the mean squares; **of** is "image". Where running
statistics are not yet meaningful, the batch is one vector, since each image has a share in the statistics: **of** is
"batch", sigma_max and stable_rank describe the Jacobian of all logits by all images, and frobenius is ||J||_F /
sqrt(images), so that the two can be compared. The rank is then up to images times classes, less what batch norm fixes.

Cost: ten iterations of J and J^T and ten more of J^T, which take a gradient each; J is a second-order product, about
ten gradients on CPUs.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax.instruments.second_order import jacobian_product, transposed_jacobian_product
from resnet_jax.instruments.subject import Subject

START, DRAW = 1, 2
ITERATIONS = 10
DRAWS = 10


def measure(subject: Subject) -> dict[str, Any]:
    """Return "of", "sigma_max", "change", "frobenius" and "stable_rank"."""
    images = len(subject.batch.labels)
    sigmas, before = largest_singular_values(subject)
    squares = squared_frobenius_norms(subject)
    return {
        "of": "batch" if subject.uses_batch_statistics else "image",
        "sigma_max": np.mean(sigmas),
        "change": 1 - np.mean(before) / np.mean(sigmas),
        "frobenius": np.sqrt(np.sum(squares) / images),
        "stable_rank": np.mean(squares) / np.mean(sigmas**2),
    }


def largest_singular_values(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Return the estimates after the last and the last but one iteration, for each image's Jacobian or the batch's."""
    images = jnp.asarray(subject.batch.images)
    u = gaussian(subject, START)
    sigmas = [np.zeros(1)]
    for _ in range(ITERATIONS):
        v = transposed_jacobian_product(subject.net)(subject.variables, images, u, train=subject.uses_batch_statistics)
        v = v / norms(v, subject.uses_batch_statistics)
        u = jacobian_product(subject.net)(subject.variables, images, v, train=subject.uses_batch_statistics)
        sigmas.append(np.ravel(norms(u, subject.uses_batch_statistics)))
        u = u / norms(u, subject.uses_batch_statistics)
    return sigmas[-1], sigmas[-2]


def squared_frobenius_norms(subject: Subject) -> np.ndarray:
    """Return the estimate of ||J||_F^2 of each image's Jacobian or of the batch's."""
    images = jnp.asarray(subject.batch.images)
    product = transposed_jacobian_product(subject.net)
    draws = gaussian(subject, DRAW, DRAWS)
    pulled = (product(subject.variables, images, u, train=subject.uses_batch_statistics) for u in draws)
    return np.mean([np.ravel(norms(each, subject.uses_batch_statistics)) ** 2 for each in pulled], axis=0)


def gaussian(subject: Subject, purpose: int, *draws: int) -> jax.Array:
    """Return draws of N(0, 1) like the logits of the batch."""
    shape = (*draws, len(subject.batch.labels), subject.net.num_classes)
    return jnp.asarray(subject.random(purpose).standard_normal(shape), subject.batch.images.dtype)


def norms(rows: jax.Array, is_one: bool) -> jax.Array:
    """Return the norm of each row, or of all if they are one vector, of as many axes as ``rows``."""
    square = jnp.sum(rows**2, axis=tuple(range(0 if is_one else 1, rows.ndim)), keepdims=True)
    return jnp.maximum(jnp.sqrt(square), jnp.finfo(rows.dtype).tiny)
