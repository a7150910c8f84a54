"""Layer-sequential unit variance: initial values scaled by a batch (Mishkin and Matas 2015, arXiv 1511.06422)."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax import models

# As in the authors' code.
TOLERANCE, MOST_TRIES = 0.02, 20


def scaled(model: nn.Module, params: Mapping[str, Any], images: np.ndarray) -> dict[str, Any]:
    """Return ``params`` with each kernel divided so that its layer's output has variance 1, in the order of layers.

    Outputs are taken before the activation, with biases of 0; the variance is over examples, places and channels. One
    device computes all of it, so that the result does not depend on the number of devices.

    Args:
      model: a net without norms.
      params: its parameters, with orthonormal kernels and biases of 0.
      images: normalised, float32 ``[batch, height, width, channels]``.
    """
    leaves = models.unstack(params)
    measure = jax.jit(functools.partial(variances, model))
    for layer in models.walk(model, images.shape[1:]):
        if ("params", "kernel") not in layer.variables:
            continue
        path = tuple(layer.name.split("/"))
        for _ in range(MOST_TRIES):
            variance = models.unstack(measure(models.stack(leaves, params), images))[(*path, "variance")]
            if abs(1 - variance) <= TOLERANCE:
                break
            leaves[*path, "kernel"] = leaves[*path, "kernel"] / np.sqrt(variance)
    return models.stack(leaves, params)


def variances(model: nn.Module, params: Mapping[str, Any], images: jax.Array) -> dict[str, Any]:
    """Return the variance of the output of each convolution and of the head of ``model``, as leaves "variance"."""

    def watch(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = call(*args, **kwargs)
        module = context.module
        if context.method_name == "__call__" and isinstance(module, nn.Conv | nn.Dense):
            module.sow("intermediates", "variance", jnp.var(output), init_fn=tuple, reduce_fn=lambda _, new: new)
        return output

    with nn.intercept_methods(watch):
        _, found = model.apply({"params": params}, images, train=False, mutable=["intermediates"])
    return found["intermediates"]
