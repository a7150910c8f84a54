"""Laws of initial values: each module declares one for each of its variables; values are drawn by it.

A law is declared like any Flax initialiser. The values a run starts from are drawn by ``initial_variables`` in
``walk.py``, in numpy: compiling Flax's own initialisation takes 10 s for 20 layers on a CPU, drawing takes 0.1 s.
"""

import contextlib
import contextvars
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

import flax.core.meta
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

_declaring = contextvars.ContextVar("declaring", default=False)


@dataclasses.dataclass(frozen=True)
class Law:
    """A distribution of initial values; called like a Flax initialiser, it is one.

    Attributes:
      initializer: the law in JAX, ``(key, shape, dtype) -> array``.
      draw: the law in numpy, ``(random, shape) -> float32 array``.
    """

    initializer: Callable[..., jax.Array]
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

    def __call__(self, key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Any:
        """Return an initial value, within ``declaring`` in a box that has this law."""
        if _declaring.get():
            return Declared(jnp.zeros(shape, dtype), self)
        return self.initializer(key, shape, dtype)


def gaussian(gain: float) -> Law:
    """Return the Gaussian law of variance ``gain / fan-in``, not truncated."""
    return Law(
        nn.initializers.variance_scaling(gain, "fan_in", "normal"),
        lambda random, shape: (
            random.standard_normal(shape, np.float32) * np.float32(np.sqrt(gain / np.prod(shape[:-1])))
        ),
    )


# He et al. 2015, "Delving deep into rectifiers", equation 10.
he_normal = gaussian(2.0)
zeros = Law(nn.initializers.zeros, lambda random, shape: np.zeros(shape, np.float32))
ones = Law(nn.initializers.ones, lambda random, shape: np.ones(shape, np.float32))


def constant(value: float) -> Law:
    """Return the law that sets every value to ``value``."""
    return Law(nn.initializers.constant(value), lambda random, shape: np.full(shape, value, np.float32))


def normal(deviation: float) -> Law:
    """Return the Gaussian law of mean 0 and this standard deviation."""
    return Law(
        nn.initializers.normal(deviation),
        lambda random, shape: random.standard_normal(shape, np.float32) * np.float32(deviation),
    )


def draw_orthogonal(random: np.random.Generator, size: int) -> np.ndarray:
    """Return a matrix ``[size, size]`` uniformly distributed over the orthogonal ones, float64."""
    q, r = np.linalg.qr(random.standard_normal((size, size)))
    return q * np.sign(np.diag(r))


def delta_orthogonal(factor: float) -> Law:
    """Return the law of kernels that are ``factor`` times an isometry (Xiao et al. 2018, arXiv 1806.05393, section 4).

    All taps but the centre are zero; the centre is the first rows of an orthogonal matrix ``[outputs, outputs]``, so
    that a convolution must not narrow.
    """

    def draw(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        *sides, inputs, outputs = shape
        if inputs > outputs:
            raise ValueError(f"a delta-orthogonal kernel cannot narrow from {inputs} to {outputs} channels")
        kernel = np.zeros(shape, np.float32)
        kernel[tuple(side // 2 for side in sides)] = factor * draw_orthogonal(random, outputs)[:inputs]
        return kernel

    return Law(nn.initializers.delta_orthogonal(factor), draw)


def mirrored(law: Law) -> Law:
    """Return the law of kernels [W, -W] over the inputs, with W by ``law`` (Balduzzi et al. 2017, arXiv 1702.08591)."""

    def halved(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-2], shape[-2] // 2, shape[-1])

    def initializer(key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        half = law.initializer(key, halved(shape), dtype)
        return jnp.concatenate([half, -half], axis=-2)

    def draw(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        half = law.draw(random, halved(shape))
        return np.concatenate([half, -half], axis=-2)

    return Law(initializer, draw)


def _draw_orthonormal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    rows = random.standard_normal((int(np.prod(shape[:-1])), shape[-1]))
    left, _, right = np.linalg.svd(rows, full_matrices=False)
    return (left if left.shape == rows.shape else right).astype(np.float32).reshape(shape)


# Saxe et al. 2013: the filters are orthonormal, or where these are more than the fan-in, the weights of each input.
orthonormal = Law(nn.initializers.orthogonal(), _draw_orthonormal)


class Laws(NamedTuple):
    """The laws of a net: for the first convolution, the other convolutions, the biases of both, and the head."""

    stem: Law = he_normal
    kernel: Law = he_normal
    bias: Law = zeros
    head: Law = he_normal


def critical_tanh(variance: float) -> tuple[float, float]:
    """Return the variances of weights (times fan-in) and biases for which tanh nets have this fixed point.

    It is on the critical line, where gradients neither vanish nor explode (Xiao et al. 2018, section 2): with z from
    N(0, 1) and q the variance, weights = 1 / E[tanh'(sqrt(q) z)^2] and biases = q - weights * E[tanh(sqrt(q) z)^2].

    Args:
      variance: variance of the activations before tanh, q.
    """
    z, weight = np.polynomial.hermite_e.hermegauss(64)
    values = np.tanh(np.sqrt(variance) * z)
    mean_of = functools.partial(np.average, weights=weight)
    weights = 1 / mean_of((1 - values**2) ** 2)
    return float(weights), float(variance - weights * mean_of(values**2))


def _delta_orthogonal_laws(depth: int) -> Laws:
    weights, biases = critical_tanh(1 / depth)  # The fixed point of the authors' code.
    return Laws(gaussian(weights), delta_orthogonal(weights**0.5), normal(biases**0.5), gaussian(1.0))


# By config.model.init, given the depth. LSUV starts from its laws; training/lsuv.py does the rest.
INITS: dict[str, Callable[[int], Laws]] = {
    "he": lambda depth: Laws(),
    "delta_orthogonal": _delta_orthogonal_laws,
    "looks_linear": lambda depth: Laws(gaussian(1.0), mirrored(delta_orthogonal(1.0)), zeros, mirrored(gaussian(1.0))),
    "lsuv": lambda depth: Laws(orthonormal, orthonormal, zeros, orthonormal),
}


@flax.struct.dataclass
class Declared(flax.core.meta.AxisMetadata):
    """The value of a variable in a box with the law that its module declares."""

    value: Any
    law: Law = flax.struct.field(pytree_node=False)

    def unbox(self) -> Any:
        """Return the value."""
        return self.value

    def replace_boxed(self, val: Any) -> Self:
        """Return another value with the same law."""
        return self.replace(value=val)  # type: ignore[attr-defined]

    def add_axis(self, index: int, params: dict[Any, Any]) -> Self:
        """Return itself: the law draws one block, however many are stacked."""
        return self

    def remove_axis(self, index: int, params: dict[Any, Any]) -> Self:
        """Return itself."""
        return self


@contextlib.contextmanager
def declaring() -> Iterator[None]:
    """Let laws return boxes, so that a traced ``model.init`` reports the law of each variable."""
    token = _declaring.set(True)
    try:
        yield
    finally:
        _declaring.reset(token)
