"""The layers before the first stage of residual nets and DenseNets."""

from collections.abc import Callable

import flax.linen as nn
import jax

# Makes a layer, given its own size and name; all else is decided.
ModuleDef = Callable[..., nn.Module]


class Stem(nn.Module):
    """The layers before the first stage: 3x3 on CIFAR, 7x7 with stride 2 and 3x3 max pooling on ImageNet."""

    width: int
    imagenet: bool
    has_norm: bool
    conv: ModuleDef
    norm: ModuleDef
    activate: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[batch, height, width, channels]`` to ``[batch, height, width, features]``, on ImageNet a quarter."""
        x = self.conv(self.width, 7 if self.imagenet else 3, 2 if self.imagenet else 1, name="conv")(x)
        if self.has_norm:
            x = self.norm(name="bn")(x, activate=self.activate)
        if self.imagenet:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        return x
