"""Stochastic depth: in training each branch is computed at random (Huang et al. 2016, arXiv 1603.09382).

It wraps any block from outside; in a plain net a block that is dropped passes its input on.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax.models.block import Block
from resnet_jax.models.layers.addition import whole
from resnet_jax.models.parts import part_of


def survival_probabilities(blocks: int, last: float, rule: str) -> tuple[float, ...]:
    """Return the probability that each block's branch is computed in training (equation 4); empty if all are 1.

    Args:
      blocks: number of blocks of the net.
      last: probability of the last block.
      rule: "linear", falling from 1 before the first block, or "uniform".
    """
    if last == 1:
        return ()
    if rule == "uniform":
        return (last,) * blocks
    return tuple(1 - np.arange(1, blocks + 1) / blocks * (1 - last))


def with_survival(block: Block, x: jax.Array, survival: jax.Array, *numbers: jax.Array) -> jax.Array:
    """Return ``block(x, *numbers)``, in training with its branch computed with probability ``survival``.

    In evaluation all branches are computed, in residual blocks multiplied by ``survival`` (equation 5).
    """
    if block.is_initializing():
        return block(x, *numbers)
    if not block.train:
        with nn.intercept_methods(functools.partial(times_survival, survival=survival)):
            return block(x, *numbers)
    survives = jax.random.bernoulli(block.make_rng("survival"), survival)
    if block.is_mutable_collection("intermediates"):  # A conditional cannot record the layers of one side only.
        with nn.intercept_methods(dropping_unless(survives)):
            return block(x, *numbers)

    def without_branch(block: Block, x: jax.Array) -> jax.Array:
        with nn.intercept_methods(dropping_unless(None)):
            return block(x, *numbers)

    return nn.cond(survives, lambda block, x: block(x, *numbers), without_branch, block, x)


def times_survival(
    call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext, survival: jax.Array
) -> Any:
    """Multiply the gain of a residual block by ``survival``."""
    found, part = call(*args, **kwargs), part_of(args, kwargs, context)
    if part is None or part.name != "gain" or not part.block.residual:
        return found
    return survival if found is None else survival * found


def dropping_unless(survives: jax.Array | None) -> Callable[..., Any]:
    """Return an interceptor by which blocks pass on their shortcut only, always or where ``survives`` is False."""
    inputs: list[jax.Array] = []

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        part = part_of(args, kwargs, context)
        if part is None:
            return call(*args, **kwargs)
        if part.name == "__call__":
            inputs.append(part.args[0])
        if part.name == "branch" and survives is None:
            return None
        if part.name != "join":
            return call(*args, **kwargs)
        shortcut = whole(part.args[1]) if part.block.residual else part.block.identity(inputs[-1])
        without = part.block.activate(shortcut)
        return without if survives is None else jnp.where(survives, call(*args, **kwargs), without)

    return intercept
