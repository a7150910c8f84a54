"""The loop over the blocks of a stage.

The parameters of alike blocks are stacked (``stacking.py``), so that compile time does not grow with depth.
"""

import contextlib
import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resnet_jax.errors import UserError
from resnet_jax.models.block import Block
from resnet_jax.models.gates import COLLECTION, LEAF, gated
from resnet_jax.models.stacking import ALL, FIRST, REST
from resnet_jax.models.variants.stochastic_depth import with_survival

# The keys that layers draw from in training, as Flax calls them; each block draws by its own.
RANDOM = ("dropout", "survival")
# Collections with an entry for each block. Where one is missing, the loop runs without it.
STACKED = ("params", "batch_stats", "gates", "intermediates", "perturbations")

# Methods of a block that gates and stochastic depth wrap.
PARTS = ("branch", "shortcut", "gain", "join")


class Stage(nn.Module):
    """Blocks on feature maps of one size; the first takes the stride.

    Attributes:
      blocks: number of blocks.
      stride: stride of the first.
      block: makes a block, given its stride and name.
      unroll: whether the loop is unrolled, which compiles longer and computes the same.
      remat: whether blocks are rematerialised in the backward pass instead of kept in memory.
      survival: probability that each block's branch is computed in training (stochastic depth); empty without.
      numbers: a further argument of each block (1 / beta of normalizer-free nets); empty without.
      first: further attributes of the first block.
      alike: whether the first block is like the others, so that the loop covers it, too.
    """

    blocks: int
    stride: int
    block: Callable[..., Block]
    unroll: bool = False
    remat: bool = False
    survival: Sequence[float] = ()
    numbers: Sequence[float] = ()
    first: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    alike: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[batch, height, width, channels]`` to the output of the last block."""
        step = nn.remat(apply, prevent_cse=False) if self.remat else apply
        constants = {"survival": self.survival, "number": self.numbers}
        each = {name: jnp.array(values) for name, values in constants.items() if values}
        if not self.alike:
            own, each = (jax.tree.map(operator.itemgetter(part), each) for part in (0, slice(1, None)))
            x, _ = step(self.block(stride=self.stride, name=FIRST, **self.first), x, own)
        looped = self.blocks if self.alike else self.blocks - 1
        if looped:
            loop = nn.scan(
                step,
                variable_axes=dict.fromkeys(STACKED, 0),
                split_rngs=dict.fromkeys(("params", *RANDOM), True),
                length=looped,
                unroll=looped if self.unroll else 1,
            )
            x, _ = loop(self.block(stride=1, name=ALL if self.alike else REST), x, each)
        return x


def apply(block: Block, x: jax.Array, each: dict[str, jax.Array]) -> tuple[jax.Array, None]:
    """Return the output of ``block``, by its gate and with its survival probability where it has one.

    Raises:
      UserError: the block never calls a method that gates and stochastic depth wrap.
    """
    numbers = [each["number"]] if "number" in each else []
    is_gated = block.has_variable(COLLECTION, LEAF)
    if not is_gated and "survival" not in each:
        return block(x, *numbers), None
    called: set[str] = set()
    by_gate = nn.intercept_methods(gated) if is_gated else contextlib.nullcontext()
    with nn.intercept_methods(functools.partial(noting, called=called)), by_gate:
        y = with_survival(block, x, each["survival"], *numbers) if "survival" in each else block(x, *numbers)
    for method in PARTS:
        if method not in called:
            raise UserError(
                f"{type(block).__name__} never calls self.{method}, by which gates and stochastic depth change blocks; "
                "call it, or leave config.gates and config.model.survival at their defaults."
            )
    return y, None


def noting(
    call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext, called: set[str]
) -> Any:
    """Call a method; if it is a block's, add its name to ``called``."""
    if isinstance(context.module, Block):
        called.add(context.method_name)
    return call(*args, **kwargs)
