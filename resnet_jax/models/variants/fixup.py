"""Fixup: residual nets without norms (Zhang, Dauphin and Ma 2019, arXiv 1901.09321, section 3)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from resnet_jax.models.layers import init
from resnet_jax.models.variants.orders import SharedBeginning
from resnet_jax.models.variants.shortcuts import changes_shape


class Fixup(SharedBeginning):
    """A block with a scalar bias before and after each convolution, and a scalar factor of its branch.

    Attributes:
      blocks: number of blocks of the net, by which the initial values are scaled.
    """

    projection_has_norm: ClassVar[bool] = False
    blocks: int = 1

    def shares(self, x: jax.Array) -> bool:
        """The first bias comes before projections and where shapes change."""
        return changes_shape(self, x) or super().shares(x)

    def before(self, index: int, x: jax.Array, *numbers: jax.Array) -> jax.Array:
        """The input of convolution ``index`` plus its bias."""
        x = x if index == 1 else self.norm(name=f"bn{index - 1}")(x)
        return x + self.scalar(f"bias{index}a", init.zeros, x)

    def branch(self, x: jax.Array, begun: bool = False, *numbers: jax.Array) -> jax.Array:
        """F(x) times its factor."""
        x = super().branch(x, begun)
        return self.scalar("scale", init.ones, x) * x

    def convolution(self, index: int) -> nn.Module:
        """Convolution ``index``, initially zero if it is the last, else He's times ``blocks ** (-1 / (2m - 2))``.

        m is the number of convolutions.
        """
        layers = len(self.layers)
        law = init.zeros if index == layers else init.gaussian(2 * self.blocks ** (-1 / (layers - 1)))
        return self.conv(*self.layers[index - 1], kernel_init=law, name=f"conv{index}")

    def scalar(self, name: str, law: init.Law, like: jax.Array) -> jax.Array:
        """The learned number ``name``, of the type of ``like``."""
        return jnp.asarray(self.param(name, law, ()), like.dtype)


def net(model: ConfigDict, stage_sizes: Sequence[int]) -> dict[str, Any]:
    """Return further attributes of a net of Fixup blocks: scalar biases everywhere, and a head that begins at zero."""
    return {
        "options": {"blocks": sum(stage_sizes)},
        "norm_settings": {"is_scalar": True},
        "finish": lambda x, norm, activation: norm(name="bn")(x, activate=False),
        "laws": init.Laws(head=init.zeros),
    }
