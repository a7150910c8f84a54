"""Shortcuts times a learned 1 - g(x) (He et al. 2016, arXiv 1603.05027, section 3.1 and table 1)."""

import flax.linen as nn
import jax

from resnet_jax.models.block import ConvBlock
from resnet_jax.models.layers import init
from resnet_jax.models.layers.addition import Addend
from resnet_jax.models.layers.stem import ModuleDef


class Gating(nn.Module):
    """g(x), the sigmoid of a 1x1 convolution, for each channel and place."""

    features: int
    stride: int
    bias: float
    conv: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[batch, height, width, channels]`` to ``[batch, height / stride, width / stride, features]``."""
        bias = self.param("bias", init.constant(self.bias), (self.features,))
        logits = self.conv(self.features, 1, self.stride, name="conv")(x) + bias[None, None, None]
        return nn.sigmoid(logits).astype(x.dtype)


def gating(block: ConvBlock, x: jax.Array, bias: float) -> jax.Array:
    """Return g(x) of ``block``."""
    return Gating(block.layers[-1].features, block.stride, bias, block.conv, name="gating")(x)


def shortcut_gated(block: ConvBlock, x: jax.Array, bias: float) -> jax.Array:
    """Return (1 - g(x)) x, with x by option A."""
    identity = block.identity(x)
    return (1 - gating(block, x, bias)) * identity


class ExclusivelyGated(ConvBlock):
    """relu((1 - g(x)) x + g(x) F(x)).

    Attributes:
      gating_bias: initial bias of g.
    """

    gating_bias: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``x`` as every block does."""
        share = gating(self, x, self.gating_bias)
        shortcut = self.shortcut(x, share)
        return self.join(self.branch(x), shortcut, self.gain(), share)

    def shortcut(self, x: jax.Array, share: jax.Array) -> jax.Array:  # type: ignore[override]
        """(1 - g(x)) x."""
        return (1 - share) * self.identity(x)

    def join(  # type: ignore[override]
        self, branch: jax.Array, shortcut: Addend | None, gain: jax.Array | None, share: jax.Array
    ) -> jax.Array:
        """relu(gain * g(x) norm(branch) + shortcut)."""
        return self.activate(self.add(share * self.last_norm()(branch, activate=False), shortcut, gain))
