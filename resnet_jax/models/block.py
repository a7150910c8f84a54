"""Plain and residual blocks: y = relu(F(x)) and y = relu(F(x) + x) (He et al. 2015, section 3.2).

A block has a branch F with a gain, a shortcut, and ``join``, where the two meet; each is a method. A variant from a
later paper overrides one of them in a file of its own (``variants/``). Gates, stochastic depth and instruments wrap
them at run time, without changing the class (``parts.py``); so ``__call__`` hands on to ``join`` what they return.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from resnet_jax.errors import UserError
from resnet_jax.models.layers.addition import Addend, whole
from resnet_jax.models.layers.stem import ModuleDef


class Block(nn.Module):
    """relu(F(x) + x); without ``residual`` relu(F(x)), with the same layers and parameters.

    ``around`` returns the shortcut, given block and input.
    """

    residual: bool
    train: bool
    stride: int
    conv: ModuleDef
    norm: ModuleDef
    around: Callable[[Any, jax.Array], jax.Array] = lambda block, x: block.identity(x)
    activation: Callable[[jax.Array], jax.Array] = nn.relu

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[batch, height, width, channels]`` to ``[batch, height / stride, width / stride, features]``."""
        shortcut = self.shortcut(x)
        return self.join(self.branch(x), shortcut, self.gain())

    def branch(self, x: jax.Array) -> jax.Array:
        """F(x)."""
        raise NotImplementedError

    def gain(self) -> jax.Array | None:
        """Factor of the branch; None for 1."""
        return None

    def shortcut(self, x: jax.Array) -> jax.Array | None:
        """Input in the shape of the output (equation 2); None in a plain net."""
        return self.around(self, x) if self.residual else None

    def identity(self, x: jax.Array) -> jax.Array:
        """Input in the shape of the output, without parameters."""
        return x

    def join(self, branch: jax.Array, shortcut: Addend | None, gain: jax.Array | None) -> jax.Array:
        """relu(gain * branch + shortcut) (equation 1)."""
        return self.activate(self.add(branch, shortcut, gain))

    def add(self, branch: jax.Array, shortcut: Addend | None, gain: jax.Array | None) -> jax.Array:
        """Return gain * branch + shortcut; without gain or shortcut these are 1 and 0."""
        if gain is not None:
            branch = jnp.asarray(gain, branch.dtype) * branch
        return branch if shortcut is None else branch + whole(shortcut)

    def activate(self, x: jax.Array) -> jax.Array:
        """The activation after the addition."""
        return self.activation(x)


class Conv(NamedTuple):
    """One convolution of a branch: features, side of the kernel, stride."""

    features: int
    kernel: int
    stride: int = 1


def basic(width: int, stride: int, reserved: int = 0) -> tuple[Conv, ...]:
    """Return two 3x3 convolutions (figure 5, left), with ``reserved`` further channels in the hidden layer."""
    return Conv(width + reserved, 3, stride), Conv(width, 3)


def single(width: int, stride: int) -> tuple[Conv, ...]:
    """Return a single 3x3 convolution (section 3.2)."""
    return (Conv(width, 3, stride),)


def bottleneck(width: int, stride: int, stride_on_first: bool = True, widening: float = 1.0) -> tuple[Conv, ...]:
    """Return 1x1, 3x3 and 1x1 convolutions, the last four times as wide (figure 5, right).

    The paper's stride is on the first, torchvision's on the 3x3; ``widening`` multiplies the width of the first two
    (wide-50-2).
    """
    first, middle = (stride, 1) if stride_on_first else (1, stride)
    inner = round(widening * width)
    return Conv(inner, 1, first), Conv(inner, 3, middle), Conv(4 * width, 1)


def zero_padded(x: jax.Array, features: int, stride: int) -> jax.Array:
    """Return option A: every ``stride``-th pixel, and zeros for new channels, half in front and half at the end."""
    missing = features - x.shape[-1]
    if missing < 0:
        raise UserError(f"a block that narrows from {x.shape[-1]} to {features} channels has no identity as shortcut")
    if stride == 1 and not missing:
        return x
    # An index would be a gather where the batch size is free (evaluation/stablehlo.py).
    x = jax.lax.slice(x, (0, 0, 0, 0), x.shape, (1, stride, stride, 1))
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))


class ConvBlock(Block, kw_only=True):
    """relu(norm conv relu norm conv x + x), with any convolutions, and option A where shapes change."""

    projection_has_norm: ClassVar[bool] = True  # Read by ``variants/shortcuts.py``.

    width: int
    dropout: ModuleDef
    dropout_rate: float = 0.0
    convolutions: Callable[[int, int], tuple[Conv, ...]] = basic

    def branch(self, x: jax.Array) -> jax.Array:
        """F(x) without the norm of its last convolution, which ``join`` applies."""
        return self.convolve(self.before(1, x))

    def before(self, index: int, x: jax.Array) -> jax.Array:
        """The input ``x`` of convolution ``index``, from 1: normalised and activated, except at the first."""
        return x if index == 1 else self.norm(name=f"bn{index - 1}")(x)

    def convolve(self, x: jax.Array) -> jax.Array:
        """The convolutions of the branch and what comes between them, with dropout before the last."""
        for index in range(1, len(self.layers) + 1):
            x = x if index == 1 else self.before(index, x)
            if index == len(self.layers) and self.dropout_rate:
                x = self.dropout(self.dropout_rate)(x)
            x = self.convolution(index)(x)
        return x

    def convolution(self, index: int) -> nn.Module:
        """Convolution ``index`` of the branch."""
        return self.conv(*self.layers[index - 1], name=f"conv{index}")

    def identity(self, x: jax.Array) -> jax.Array:
        """Input in the shape of the output, by option A."""
        return zero_padded(x, self.layers[-1].features, self.stride)

    def join(self, branch: jax.Array, shortcut: Addend | None, gain: jax.Array | None) -> jax.Array:
        """relu(gain * norm(branch) + shortcut): norm, addition and ReLU are one operation, which saves time."""
        return self.last_norm()(branch, shortcut, gain=gain)

    def last_norm(self) -> nn.Module:
        """The norm of the last convolution."""
        return self.norm(name=f"bn{len(self.layers)}")

    @property
    def layers(self) -> tuple[Conv, ...]:
        """The convolutions of the branch."""
        return self.convolutions(self.width, self.stride)
