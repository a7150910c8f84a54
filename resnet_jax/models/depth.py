"""The depths that a family has."""

from resnet_jax.errors import UserError


def whole_number(depth: int, layers: int, others: int) -> int:
    """Return n for which ``depth`` is ``layers`` times n plus ``others``.

    Raises:
      UserError: there is no n of at least 1.
    """
    n, remainder = divmod(depth - others, layers)
    if remainder or n < 1:
        below = depth - remainder
        near = (
            f"the nearest depths are {below} and {below + layers}"
            if n >= 1
            else f"the smallest depth is {layers + others}"
        )
        raise UserError(
            f"config.model.depth={depth} is not {layers}n+{others} for a whole number n of at least 1; {near}."
        )
    return n
