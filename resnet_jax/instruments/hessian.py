"""How sharp and how non-convex is the loss?

For the Hessian H of the mean loss of one batch of training images by all parameters, in training mode, without weight
decay (which adds its factor to every eigenvalue):

- **lambda_max**, **lambda_min**: its largest and its smallest eigenvalue, the outermost Ritz values of ``STARTS`` runs
  of Lanczos of ``STEPS`` steps, reorthogonalised in full. Both lie inside the spectrum. **error_max** and **error_min**
  bound the distance to the nearest eigenvalue.
- **ratio**: |lambda_min / lambda_max|, a measure of non-convexity (Li et al. 2018, arXiv 1712.09913).
- **values**, **density**: the density of eigenvalues at a grid of values, by stochastic Lanczos quadrature as in
  PyHessian: Ritz values with their weights in the starts, broadened by Gaussians; its integral is 1.
- **below**: the share of eigenvalues below -``NEAR_ZERO`` |lambda|_max; **trace**: the sum of all, with its standard
  error **trace_error**. They and the density come from a few random starts, so they are rough.

H v is the gradient of <dL/dw, v>, exact but for rounding: a ReLU net is piecewise smooth, and H does not see the kinks
between the pieces that a step of finite length meets. Traps: with batch norm the loss does not change with the scale of
a kernel W, so that eigenvalues scale as 1 / ||W||^2: compare nets by lambda times the learning rate, or by landscapes
with filters scaled alike, not by lambda. At step 0 the most negative eigenvalue can be the largest, and deep plain nets
do not converge. Cost: ``STARTS`` times ``STEPS`` products of ten gradients each on CPUs; ``STEPS`` vectors like the
parameters are kept in float64.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.stats

from resnet_jax.errors import UserError
from resnet_jax.instruments.observed import without_params
from resnet_jax.instruments.second_order import hessian_product
from resnet_jax.instruments.subject import Subject

START = 1
STARTS = 3
STEPS = 30
VALUES = 401
# Width of the Gaussians of the density, as a share of the range of eigenvalues.
WIDTH = 0.01
# Eigenvalues up to this share of the largest size count as 0.
NEAR_ZERO = 0.01

# A symmetric matrix as a function: from a vector to its product.
Product = Callable[[np.ndarray], np.ndarray]


class Ritz(NamedTuple):
    """Ritz values of a symmetric matrix, found by Lanczos.

    Attributes:
      values: Ritz values, rising, ``[steps]``.
      weights: squares of the start's components along the Ritz vectors, which sum to 1.
      errors: the distance from each value within which there is an eigenvalue.
    """

    values: np.ndarray
    weights: np.ndarray
    errors: np.ndarray


def measure(subject: Subject) -> dict[str, Any]:
    """Return both ends and their errors, "ratio", "trace", "trace_error", "below", and "density" over "values"."""
    params, unravel = jax.flatten_util.ravel_pytree(subject.variables["params"])
    others = without_params(subject.variables)
    compiled = functools.partial(hessian_product(subject.net), subject.variables["params"], others, *subject.batch)

    def product(vector: np.ndarray) -> np.ndarray:
        multiplied = compiled(unravel(jnp.asarray(vector, params.dtype)))
        flat = np.asarray(jax.flatten_util.ravel_pytree(multiplied)[0], np.float64)
        if not np.all(np.isfinite(flat)):
            raise UserError(f"the second derivatives of the loss of {subject.net.title} are not finite")
        return flat

    random = subject.random(START)
    return spectrum([lanczos(product, random.standard_normal(params.size), STEPS) for _ in range(STARTS)], params.size)


def lanczos(product: Product, start: np.ndarray, steps: int) -> Ritz:
    """Return the Ritz values of the matrix of ``product`` in the Krylov space of ``start``, float64 ``[size]``.

    Ends before ``steps`` where the space is invariant.
    """
    basis = np.empty((min(steps, len(start)), len(start)))
    diagonal, off_diagonal = [], []
    vector, norm = start, float(np.linalg.norm(start))
    for step in range(len(basis)):
        basis[step] = vector / norm
        vector = product(basis[step])
        diagonal.append(basis[step] @ vector)
        # Twice is enough (Parlett): against all before, because in floating point orthogonality is lost.
        for _ in range(2):
            vector = vector - basis[: step + 1].T @ (basis[: step + 1] @ vector)
        norm = float(np.linalg.norm(vector))
        off_diagonal.append(norm)
        if norm <= np.finfo(np.float64).eps * len(start) * max(map(abs, diagonal)):
            break
    values, vectors = scipy.linalg.eigh_tridiagonal(np.array(diagonal), np.array(off_diagonal[:-1]))
    return Ritz(values, vectors[0] ** 2, np.abs(off_diagonal[-1] * vectors[-1]))


def spectrum(found: list[Ritz], size: int) -> dict[str, Any]:
    """Return the result of ``measure`` for a matrix of ``size`` rows, given the Ritz values ``found`` by Lanczos."""
    values, errors = (np.concatenate([getattr(each, name) for each in found]) for name in ("values", "errors"))
    weights = np.concatenate([each.weights for each in found]) / len(found)
    low, high = np.argmin(values), np.argmax(values)
    width = WIDTH * (values[high] - values[low]) or 1.0
    traces = [size * each.weights @ each.values for each in found]
    grid = np.linspace(values[low] - 4 * width, values[high] + 4 * width, VALUES)
    return {
        "lambda_max": values[high],
        "lambda_min": values[low],
        "error_max": errors[high],
        "error_min": errors[low],
        "ratio": abs(values[low] / values[high]),
        "trace": np.mean(traces),
        "trace_error": np.std(traces, ddof=1) / np.sqrt(len(traces)),
        "below": np.sum(weights[values < -NEAR_ZERO * np.abs(values).max()]),
        "values": grid,
        "density": scipy.stats.norm.pdf(grid[:, None], values[None], width) @ weights,
    }
