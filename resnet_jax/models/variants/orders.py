"""Other orders of norm, ReLU and addition (He, Zhang, Ren and Sun 2016, arXiv 1603.05027, figure 4).

For a branch of two convolutions, with S the shortcut:

====================  ==========================================
original              relu(S + norm conv relu norm conv x)
norm_after_addition   relu(norm(S + conv relu norm conv x))
relu_before_addition  S + relu norm conv relu norm conv x
relu_preactivation    S + norm conv relu norm conv relu x
preactivation         S + conv relu norm conv relu norm x
====================  ==========================================
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from resnet_jax.models.block import ConvBlock
from resnet_jax.models.layers.addition import Addend


class NormAfterAddition(ConvBlock):
    """relu(norm(S + conv relu norm conv x)) (figure 4 b)."""

    def join(self, branch: jax.Array, shortcut: Addend | None, gain: jax.Array | None) -> jax.Array:
        """relu(norm(gain * branch + shortcut))."""
        return self.last_norm()(self.add(branch, shortcut, gain))


class ReluBeforeAddition(ConvBlock):
    """S + relu norm conv relu norm conv x (figure 4 c)."""

    def join(self, branch: jax.Array, shortcut: Addend | None, gain: jax.Array | None) -> jax.Array:
        """relu(norm(branch)) + shortcut."""
        return self.add(self.last_norm()(branch), shortcut, gain)

    def activate(self, x: jax.Array) -> jax.Array:
        """No activation follows the addition."""
        return x


class SharedBeginning(ConvBlock):
    """A block with an operation before its first convolution, which projections share and identities pass by.

    He et al. 2016, appendix.
    """

    @nn.compact
    def __call__(self, x: jax.Array, *numbers: jax.Array) -> jax.Array:
        """Map ``x`` as every block does; ``numbers`` are further arguments of ``before``."""
        shared = self.residual and self.shares(x)
        x = self.before(1, x, *numbers) if shared else x
        shortcut = self.shortcut(x)
        return self.join(self.branch(x, shared, *numbers), shortcut, self.gain())

    def shares(self, x: jax.Array) -> bool:
        """Whether the shortcut begins as the branch does: where it is a convolution (``shortcuts.Projection``)."""
        applies_to = getattr(self.around, "applies_to", None)
        return applies_to is not None and applies_to(self, x)

    def branch(self, x: jax.Array, begun: bool = False, *numbers: jax.Array) -> jax.Array:
        """F(x); with ``begun`` the input ``x`` has passed the first operation already."""
        return self.convolve(x if begun else self.before(1, x, *numbers))


class ReluPreactivation(SharedBeginning):
    """S + norm conv relu norm conv relu x (figure 4 d).

    Attributes:
      is_activated: whether the input is activated already, by the stem.
    """

    projection_has_norm: ClassVar[bool] = False
    is_activated: bool = False

    def before(self, index: int, x: jax.Array, *numbers: jax.Array) -> jax.Array:
        """The activated input of convolution ``index``; only the first one has no norm."""
        if index > 1:
            return self.norm(name=f"bn{index - 1}")(x)
        return x if self.is_activated else self.activation(x)

    def join(self, branch: jax.Array, shortcut: Addend | None, gain: jax.Array | None) -> jax.Array:
        """Sum: gain * norm(branch) + shortcut."""
        return self.last_norm()(branch, shortcut, activate=False, gain=gain)

    def activate(self, x: jax.Array) -> jax.Array:
        """No activation follows the addition."""
        return x


class Preactivation(ReluPreactivation):
    """S + conv relu norm conv relu norm x (figure 4 e): the norm, too, comes before each convolution."""

    def before(self, index: int, x: jax.Array, *numbers: jax.Array) -> jax.Array:
        """The normalised and activated input of convolution ``index``."""
        return x if index == 1 and self.is_activated else self.norm(name=f"bn{index}")(x)

    def join(self, branch: jax.Array, shortcut: Addend | None, gain: jax.Array | None) -> jax.Array:
        """Sum: gain * branch + shortcut."""
        return self.add(branch, shortcut, gain)


def relu_preactivation_net(model: ConfigDict, stage_sizes: Sequence[int]) -> dict[str, Any]:
    """Return further attributes of a net of ``ReluPreactivation``: one more activation (He et al. 2016, appendix)."""
    return {
        "first": {"is_activated": model.stem_activation},
        "finish": lambda x, norm, activation: activation(x),
    }


def preactivation_net(model: ConfigDict, stage_sizes: Sequence[int]) -> dict[str, Any]:
    """Return further attributes of a net of ``Preactivation``: one more norm and activation (appendix)."""
    return {
        "stem_norm": model.stem_activation,
        "first": {"is_activated": model.stem_activation},
        "finish": lambda x, norm, activation: norm(name="bn")(x),
    }
