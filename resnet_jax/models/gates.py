"""Gates: interventions on shortcuts as data.

A gated block computes, for its shortcut S and its branch F,

    y = relu(P(S(x); a, alpha) + b * F(P(x; 1, beta)))

where P(z; u, v) has the value u * z and passes gradients on times v. The four numbers of each block are arrays in a
Flax collection of their own, "gates": arguments of the compiled program, so another intervention compiles nothing. A
program without the collection is that of the ungated net.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax.models.stage import assemble
from resnet_jax.models.walk import walk

COLLECTION, LEAF = "gates", "gate"


class Gate(NamedTuple):
    """The gate of one block.

    Attributes:
      shortcut: value factor of the shortcut, a.
      shortcut_gradient: gradient factor of the shortcut, alpha.
      branch: gain of the branch, b; the parameters of the branch get its multiple as gradient.
      branch_gradient: gradient factor into the branch, beta: of what the branch passes on to the blocks below.
    """

    shortcut: float | jax.Array
    shortcut_gradient: float | jax.Array
    branch: float | jax.Array
    branch_gradient: float | jax.Array


RESIDUAL = Gate(1.0, 1.0, 1.0, 1.0)  # Floats, for which the gradient of a gated step is defined.
PLAIN = Gate(0, 0, 1, 1)
STOP_GRADIENT = Gate(1, 0, 1, 1)  # Forward a residual net; the gradient flows by branches alone.
MIRROR = Gate(0, 1, 1, 1)  # Forward a plain net; what flows back is the gradient of no function.
SHORTCUT_GRADIENT_ONLY = Gate(1, 1, 1, 0)  # Every branch learns, none passes gradient to the blocks below.
DELETED = Gate(1, 1, 0, 1)  # The block's output is its shortcut.
# By ``config.gates.route``.
ROUTES = {
    "both": RESIDUAL,
    "stop_gradient": STOP_GRADIENT,
    "mirror": MIRROR,
    "shortcut_gradient_only": SHORTCUT_GRADIENT_ONLY,
}


def gate_of(block: nn.Module) -> Gate | None:
    """Return the gate of the running ``block``, None without the collection."""
    if not block.has_variable(COLLECTION, LEAF):
        return None
    return Gate(*block.get_variable(COLLECTION, LEAF))


def gated(shortcut: jax.Array | None, gate: Gate | None) -> jax.Array | None:
    """Return what ``gate`` makes of ``shortcut``."""
    if shortcut is None or gate is None:
        return shortcut
    return scaled(shortcut, gate.shortcut, gate.shortcut_gradient)


@jax.custom_vjp
def scaled(z: jax.Array, value: jax.typing.ArrayLike, gradient: jax.typing.ArrayLike) -> jax.Array:
    """Return P(z; u, v): ``value * z``, through which gradients pass times ``gradient``.

    The two are independent, so that a shortcut can exist in the backward pass alone. The factors get no gradient.
    """
    return jnp.asarray(value, z.dtype) * z


@jax.custom_vjp
def gradient_scaled(z: jax.Array, gradient: jax.typing.ArrayLike) -> jax.Array:
    """Return P(z; 1, v): ``z`` itself, so that a backward pass that keeps it keeps one array, not two."""
    return z


def _gradient_scaled_backward(gradient: Any, cotangent: jax.Array) -> tuple[jax.Array, Any]:
    return jnp.asarray(gradient, cotangent.dtype) * cotangent, jnp.zeros_like(gradient)


gradient_scaled.defvjp(lambda z, gradient: (z, gradient), _gradient_scaled_backward)


def _scaled_forward(z: jax.Array, value: jax.typing.ArrayLike, gradient: jax.typing.ArrayLike) -> tuple[jax.Array, Any]:
    return scaled(z, value, gradient), (value, gradient)


def _scaled_backward(factors: Any, cotangent: jax.Array) -> tuple[jax.Array, Any, Any]:
    value, gradient = factors
    return jnp.asarray(gradient, cotangent.dtype) * cotangent, jnp.zeros_like(value), jnp.zeros_like(gradient)


scaled.defvjp(_scaled_forward, _scaled_backward)


def gate_blocks(model: nn.Module, image_shape: tuple[int, ...], gates: Gate | Mapping[str, Gate]) -> dict[str, Any]:
    """Return the collection "gates" of ``model``: an array ``[4]`` for each block, stacked as its parameters are.

    Args:
      model: the net.
      image_shape: ``(height, width, channels)``.
      gates: of all blocks, or of each block by its name, as in "stage2/block3".

    Raises:
      ValueError: ``gates`` lacks a block or has a block that the net has not.
    """
    blocks = {layer.name: layer for layer in walk(model, image_shape) if layer.is_block}
    gate_by_name = dict.fromkeys(blocks, gates) if isinstance(gates, Gate) else gates
    if gate_by_name.keys() != blocks.keys():
        raise ValueError(f"gates are for {sorted(gate_by_name)}, but the blocks of the net are {sorted(blocks)}")
    leaves = [
        ((*layer.path, LEAF), layer.block, np.asarray(gate_by_name[name], np.float32)) for name, layer in blocks.items()
    ]
    return assemble(leaves)
