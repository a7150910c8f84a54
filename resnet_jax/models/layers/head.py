"""The last layer of every net."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resnet_jax.models.layers import init


def logits_of(features: jax.Array, num_classes: int, dtype: Any, kernel_init: init.Law = init.he_normal) -> jax.Array:
    """Return logits ``[batch, num_classes]`` of ``features``, ``[batch, channels]``, by a fully connected layer "head".

    It is a layer of the running module, with initial weights by ``kernel_init``. Logits are float32, or wider where the
    computation, of type ``dtype``, is.
    """
    head = nn.Dense(num_classes, dtype=dtype, kernel_init=kernel_init, bias_init=init.zeros, name="head")
    return head(features).astype(jnp.promote_types(dtype, jnp.float32))
