"""Laws of initial values: what a module declares for each of its variables, and how the values are drawn.

A law is declared like any Flax initialiser. The values a run starts from are drawn by ``initial_variables`` in
``walk.py``, in numpy: compiling Flax's own initialisation takes 10 s for 20 layers on a CPU, drawing takes 0.1 s.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Self

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


# He et al. 2015, "Delving deep into rectifiers", equation 10: Gaussian of variance 2 / fan-in, not truncated.
he_normal = Law(
    nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
    lambda random, shape: random.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[:-1]))),
)
zeros = Law(nn.initializers.zeros, lambda random, shape: np.zeros(shape, np.float32))
ones = Law(nn.initializers.ones, lambda random, shape: np.ones(shape, np.float32))


def constant(value: float) -> Law:
    """Return the law of which every value is ``value``."""
    return Law(nn.initializers.constant(value), lambda random, shape: np.full(shape, value, np.float32))


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
        """Return itself: the law is that of one block, however many are stacked."""
        return self

    def remove_axis(self, index: int, params: dict[Any, Any]) -> Self:
        """Return itself."""
        return self


@contextlib.contextmanager
def declaring() -> Iterator[None]:
    """Let laws return boxes, so that a traced ``model.init`` tells the law of each variable."""
    token = _declaring.set(True)
    try:
        yield
    finally:
        _declaring.reset(token)
