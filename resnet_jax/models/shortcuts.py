"""Shortcuts around the branch of a block: identities, projections and what multiplies them."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from resnet_jax.models import init
from resnet_jax.models.gates import Gate

# Makes a layer of which all but its own size and name is decided, so that blocks need not know the rest.
ModuleDef = Callable[..., nn.Module]

SHORTCUTS = ("A", "B", "C", "pool", "conv", "exclusive_gating", "shortcut_gating", "dropout")
# Orders in which norm and ReLU come before a convolution (He et al. 2016, figure 4 d and e).
PREACTIVATIONS = ("relu_preactivation", "preactivation")
# Options whose shortcut is multiplied by 1 - g(x).
GATINGS = ("exclusive_gating", "shortcut_gating")
# The shortcut of a RepVGG block, which the field block chooses.
REPVGG = "repvgg"
# Rate of dropout on shortcuts (He et al. 2016, table 1).
SHORTCUT_DROPOUT = 0.5


def shortcut_option(block: nn.Module, gate: Gate | None) -> str | None:
    """Return the option of the shortcut of ``block``, None in a plain net without gates.

    Of a gated plain net it is the identity (option A): a plain net has no parameters for projections.
    """
    if block.residual:
        return block.shortcut
    return None if gate is None else "A"


def changes_shape(block: nn.Module, x: jax.Array, features: int) -> bool:
    """Return whether the output of ``block``, of so many ``features``, has another shape than its input ``x``."""
    return block.stride != 1 or x.shape[-1] != features


def has_projection(block: nn.Module, x: jax.Array, features: int, gate: Gate | None) -> bool:
    """Return whether the shortcut of ``block`` from its input ``x`` is a convolution."""
    option = shortcut_option(block, gate)
    return option in ("C", "conv") or (option == "B" and changes_shape(block, x, features))


def shortcut_around(
    block: nn.Module, x: jax.Array, features: int, gate: Gate | None
) -> tuple[jax.Array | None, jax.Array | None]:
    """Return the shortcut of ``block`` from its input ``x`` (paper, equation 2), None in a plain net without gates.

    The second value is what the branch is multiplied by under exclusive gating, g(x), else None.
    """
    option = shortcut_option(block, gate)
    if option is None:
        return None, None
    if has_projection(block, x, features, gate):
        # A preactivation has normalised the input. Scaled branches without norms turn this round: there preactivation
        # nets have a bias for each convolution, Fixup has none.
        has_norm = option != "conv" and (block.order in PREACTIVATIONS) == (block.scaling.norm == "none")
        return Projection(features, block.stride, has_norm, block.conv, block.norm, name="shortcut")(x), None
    if option == REPVGG:
        return parallel_branches(block, x, features), None
    shortcut = identity(x, features, block.stride, pool=option == "pool")
    if option == "dropout":
        shortcut = block.dropout(SHORTCUT_DROPOUT)(shortcut)
    if option not in GATINGS:
        return shortcut, None
    share = Gating(features, block.stride, block.gating_bias, block.conv, name="gating")(x)
    return (1 - share) * shortcut, share if option == "exclusive_gating" else None


def identity(x: jax.Array, features: int, stride: int, pool: bool = False) -> jax.Array:
    """Return ``x`` in the shape of a block's output, without parameters.

    Option A keeps every ``stride``-th pixel and adds channels of zeros, half in front and half at the end. Option pool
    averages over 2x2 pixels and adds all at the end (Huang et al. 2016, arXiv 1603.09382).

    Args:
      x: ``[batch, height, width, channels]``.
      features: channels of the result.
      stride: of the block.
      pool: whether this is option pool.

    Returns:
      ``[batch, ceil(height / stride), ceil(width / stride), features]``; for option pool the sizes are rounded down.
    """
    missing = features - x.shape[-1]
    if stride == 1 and not missing:
        return x
    front = 0 if pool else missing // 2
    if not pool:
        # An index would be a gather where the batch size is free (evaluation/stablehlo.py).
        x = jax.lax.slice(x, (0, 0, 0, 0), x.shape, (1, stride, stride, 1))
    elif stride != 1:
        x = nn.avg_pool(x, (2, 2), strides=(2, 2))
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (front, missing - front)))


def parallel_branches(block: nn.Module, x: jax.Array, features: int) -> jax.Array:
    """Return norm(1x1 convolution of x) + norm(x), the second only where shapes agree (Ding et al. 2021, section 3.3).

    All but the ReLU is linear in evaluation, so ``resnet_jax.surgery.merge`` merges these and the 3x3 into one.
    """
    pointwise = Projection(features, block.stride, True, block.conv, block.norm, name="shortcut")(x)
    if changes_shape(block, x, features):
        return pointwise
    return block.norm(name="identity")(x, pointwise, relu=False)


class Projection(nn.Module):
    """A 1x1 convolution as the shortcut of a block, with its norm where the branch ends in one."""

    features: int
    stride: int
    has_norm: bool
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv(self.features, 1, self.stride, name="conv")(x)
        return self.norm(name="bn")(x, relu=False) if self.has_norm else x


class Gating(nn.Module):
    """Learned gating g(x): the sigmoid of a 1x1 convolution, for each channel and place (He et al. 2016, section 3)."""

    features: int
    stride: int
    bias: float
    conv: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        bias = self.param("bias", init.constant(self.bias), (self.features,))
        logits = self.conv(self.features, 1, self.stride, name="conv")(x) + bias[None, None, None]
        return nn.sigmoid(logits).astype(x.dtype)
