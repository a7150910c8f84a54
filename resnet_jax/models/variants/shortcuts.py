"""Other shortcuts than option A, each a function of block and input ``[batch, height, width, channels]``.

A shortcut with a convolution also has ``applies_to``: pre-activation blocks share their first norm and ReLU
with the shortcut where it returns True.

Projections: He et al. 2015, section 4.1, options B and C. conv and dropout: He et al. 2016, arXiv 1603.05027, table 1.
pool: Huang et al. 2016, arXiv 1603.09382.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from resnet_jax.models.block import ConvBlock
from resnet_jax.models.layers.stem import ModuleDef

# Rate of dropout on shortcuts (He et al. 2016, table 1).
DROPOUT = 0.5


def changes_shape(block: ConvBlock, x: jax.Array) -> bool:
    """Return whether the output of ``block`` has another shape than its input ``x``."""
    return block.stride != 1 or x.shape[-1] != block.layers[-1].features


class Projected(nn.Module):
    """A 1x1 convolution, with a norm where ``has_norm``."""

    features: int
    stride: int
    has_norm: bool
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[batch, height, width, channels]`` to ``[batch, height / stride, width / stride, features]``."""
        x = self.conv(self.features, 1, self.stride, name="conv")(x)
        return self.norm(name="bn")(x, activate=False) if self.has_norm else x


class Projection(NamedTuple):
    """Options B, C and conv: a 1x1 convolution.

    Attributes:
      everywhere: whether also where shapes do not change.
      has_norm: whether a norm follows where the branch ends in one.
    """

    everywhere: bool = True
    has_norm: bool = True

    def __call__(self, block: ConvBlock, x: jax.Array) -> jax.Array:
        """Return the shortcut of ``block``."""
        if not self.applies_to(block, x):
            return x
        has_norm = self.has_norm and block.projection_has_norm
        features = block.layers[-1].features
        return Projected(features, block.stride, has_norm, block.conv, block.norm, name="shortcut")(x)

    def applies_to(self, block: ConvBlock, x: jax.Array) -> bool:
        """Return whether the shortcut of ``block`` is a convolution."""
        return self.everywhere or changes_shape(block, x)


def pooled(block: ConvBlock, x: jax.Array) -> jax.Array:
    """Return averages over 2x2 pixels where the block has a stride, with zeros for new channels at the end.

    Sizes are rounded down.
    """
    if block.stride != 1:
        x = nn.avg_pool(x, (2, 2), strides=(2, 2))
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, block.layers[-1].features - x.shape[-1])))


def dropped_out(block: ConvBlock, x: jax.Array) -> jax.Array:
    """Return option A with dropout."""
    return block.dropout(DROPOUT)(block.identity(x))
