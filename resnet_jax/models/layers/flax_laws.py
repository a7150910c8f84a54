"""Laws for variables of ordinary Flax layers, such as ``nn.Dense(hidden)``, which have no law of ``init.py``."""

from typing import Any, NamedTuple, Self

import flax.core.meta
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.models.layers.init import Law

WAY_OUT = (
    "declare its law as in nn.Dense(hidden, kernel_init=init.he_normal, bias_init=init.zeros), with init from "
    "resnet_jax.models.layers"
)


class Call(NamedTuple):
    """The first call of a module in a traced net.

    Attributes:
      module: the module.
      inputs: positional and keyword arguments, with shapes in place of arrays.
      output_shape: shape of its output (of the first array if there are several), without the batch.
    """

    module: nn.Module
    inputs: tuple[tuple[Any, ...], dict[str, Any]]
    output_shape: tuple[int, ...]

    @classmethod
    def of(cls, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Self:
        """Return the call of ``module`` with ``args`` and ``kwargs``, which gave ``output``."""
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if isinstance(leaf, jax.Array) else leaf,
            (args, kwargs),
        )
        arrays = [leaf for leaf in jax.tree.leaves(output) if isinstance(leaf, jax.Array)]
        return cls(module, shapes, arrays[0].shape[1:] if arrays else ())


def law_of(call: Call, collection: str, name: str, shape: tuple[int, ...], title: str) -> Law:
    """Return the law by which the module of ``call`` itself initialises a variable.

    The module is initialised without the rest of its net, on zeros, and only this variable is kept. This is done on the
    CPU, so that the values do not depend on the backend.

    Args:
      call: call of the module that has the variable.
      collection: collection of the variable.
      name: name of the variable.
      shape: shape of the variable in one block.
      title: path of the variable, for messages.

    Raises:
      UserError: the module cannot be initialised so, or has another variable then.
    """

    def initialised(key: jax.Array) -> Any:
        args, kwargs = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf,
            call.inputs,
        )
        variables = call.module.clone(parent=None, name=None).init(key, *args, **kwargs)
        return flax.core.meta.unbox(variables)[collection][name]

    def draw(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        with jax.default_device(cpu()):
            return np.asarray(initialised(jax.random.key(int(random.integers(2**32)))), np.float32)

    try:
        found = jax.eval_shape(initialised, jax.random.key(0))
    except Exception as error:  # A module can raise anything.
        raise UserError(
            f"{title} has no law of initial values, and its module {type(call.module).__name__} cannot be initialised "
            f"without the rest of the net ({type(error).__name__}: {error}); {WAY_OUT}."
        ) from error
    if getattr(found, "shape", None) != shape:
        raise UserError(
            f"{title} has no law of initial values, and its module {type(call.module).__name__} has another variable "
            f"without the rest of the net; {WAY_OUT}."
        )
    return Law(lambda key, shape, dtype: initialised(key), draw)


def cpu() -> jax.Device | None:
    """Return this process's first CPU device; None, for JAX's default device, where JAX_PLATFORMS leaves CPUs out."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
