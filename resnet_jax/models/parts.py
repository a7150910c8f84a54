"""The part of a block that a call runs, for gates, stochastic depth and instruments, which wrap parts from outside."""

import inspect
from typing import Any, NamedTuple

import flax.linen as nn

from resnet_jax.models.block import Block


class Part(NamedTuple):
    """A call of a method of a block.

    Attributes:
      block: the block.
      name: name of the method, as "branch".
      args: its arguments, also those given by keyword.
    """

    block: Block
    name: str
    args: tuple[Any, ...]


def part_of(args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Part | None:
    """Return the part that an intercepted call runs, None if the method is not a block's.

    A method that an override calls on ``super()`` is not a part: it runs within one that is wrapped already.
    """
    block = context.module
    if not isinstance(block, Block):
        return None
    method = context.orig_method.func  # type: ignore[attr-defined]
    whole = getattr(type(block), context.method_name, None)
    if whole is None or method is not getattr(whole, "__wrapped__", whole):  # None for functions that Flax lifts.
        return None
    return Part(block, context.method_name, inspect.signature(method).bind(block, *args, **kwargs).args[1:])
