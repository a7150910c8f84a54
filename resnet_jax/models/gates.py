"""Gates: interventions on shortcuts as data.

A gated block computes, for its shortcut S and its branch F, in the original order,

    y = relu(P(S(x); a, alpha) + b * F(P(x; 1, beta)))

where P(z; u, v) has the value u * z and passes gradients on times v (``layers/addition.py``). The four numbers of each
block are arrays in a Flax collection of their own, "gates": arguments of the compiled program, so another intervention
compiles nothing. The loop over blocks wraps each block by ``gated`` where the collection is present; without it the
program is the ungated net's.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from resnet_jax.models.layers.addition import Scaled, gradient_scaled
from resnet_jax.models.parts import part_of
from resnet_jax.models.stacking import assemble
from resnet_jax.models.walk import walk

COLLECTION, LEAF = "gates", "gate"


class Gate(NamedTuple):
    """The gate of one block.

    Attributes:
      shortcut: value factor of the shortcut, a.
      shortcut_gradient: gradient factor of the shortcut, alpha.
      branch: gain of the branch, b; the parameters of the branch get its multiple as gradient.
      branch_gradient: factor of the gradient that the branch passes on to the blocks below, beta.
    """

    shortcut: float | jax.Array
    shortcut_gradient: float | jax.Array
    branch: float | jax.Array
    branch_gradient: float | jax.Array


RESIDUAL = Gate(1, 1, 1, 1)
PLAIN = Gate(0, 0, 1, 1)
STOP_GRADIENT = Gate(1, 0, 1, 1)  # Forward a residual net; the gradient flows by branches only.
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


def gated(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
    """Call a method; if it is a part of a block, by the block's gate.

    A plain block gets the shortcut that it lacks, the identity. The gradient into a branch is scaled at its input: at
    its output the branch's own parameters would get the scaled gradient, too.
    """
    part = part_of(args, kwargs, context)
    if part is None or part.name not in ("branch", "shortcut", "gain"):
        return call(*args, **kwargs)
    gate = gate_of(part.block)
    assert gate is not None  # ``stage.apply`` intercepts only blocks that have the collection.
    if part.name == "branch":
        x, *others = part.args
        return call(gradient_scaled(x, gate.branch_gradient), *others)
    found = call(*part.args)
    if part.name == "gain":
        return gate.branch if found is None else found * gate.branch
    shortcut = part.block.identity(part.args[0]) if found is None else found
    return Scaled(shortcut, gate.shortcut, gate.shortcut_gradient)


def gate_blocks(model: nn.Module, image_shape: tuple[int, ...], gates: Gate | Mapping[str, Gate]) -> dict[str, Any]:
    """Return the collection "gates" of ``model``: an array ``[4]`` for each block, stacked as its parameters are.

    Args:
      model: the net.
      image_shape: ``(height, width, channels)``.
      gates: the gate of all blocks, or of each block by its name, as in "stage2/block3".

    Raises:
      ValueError: ``gates`` lacks a block or has a block that the net does not have.
    """
    blocks = {layer.name: layer for layer in walk(model, image_shape) if layer.is_block}
    gate_by_name = dict.fromkeys(blocks, gates) if isinstance(gates, Gate) else gates
    if gate_by_name.keys() != blocks.keys():
        raise ValueError(f"gates are for {sorted(gate_by_name)}, but the blocks of the net are {sorted(blocks)}")
    leaves = [
        ((*layer.path, LEAF), layer.block, np.asarray(gate_by_name[name], np.float32)) for name, layer in blocks.items()
    ]
    return assemble(leaves)
