"""The blocks of residual nets: a branch, a shortcut, and where the two are joined."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from resnet_jax.models.gates import Gate, gate_of, gradient_scaled

# Makes a layer of which all but its own size and name is decided, so that blocks need not know the rest.
ModuleDef = Callable[..., nn.Module]

SHORTCUTS = ("A", "B", "C")
BOTTLENECK_STRIDES = ("first", "middle")


def join(norm: nn.Module, branch: jax.Array, shortcut: jax.Array | None, gate: Gate | None) -> jax.Array:
    """Return the output of a block, ``relu(norm(branch) + shortcut)`` (paper, equation 1), as its gate has it.

    The last norm of the branch is applied here because norm, addition and ReLU are one operation.

    Args:
      norm: the last layer of the branch.
      branch: what this is applied to, ``[batch, height, width, features]``.
      shortcut: as ``branch``; None in a plain net.
      gate: of the block; None for the ungated net.
    """
    return norm(branch, shortcut, gate=gate)


def enter(x: jax.Array, gate: Gate | None) -> jax.Array:
    """Return what the branch of a block sees of its input ``x``: the same, with the gradient as the gate has it.

    At its output such a gate would take the gradient from the branch's own parameters too.
    """
    return x if gate is None else gradient_scaled(x, gate.branch_gradient)


def shortcut_around(block: nn.Module, x: jax.Array, features: int, gate: Gate | None) -> jax.Array | None:
    """Return the shortcut of ``block`` from its input ``x`` (paper, equation 2), None in a plain net without gates.

    Of a gated plain net it is the identity (option A): a plain net has no parameters for projections.
    """
    if not block.residual and gate is None:
        return None
    option = block.shortcut if block.residual else "A"
    return Shortcut(features, block.stride, option, block.conv, block.norm, name="shortcut")(x)


def zero_padded_identity(x: jax.Array, features: int, stride: int) -> jax.Array:
    """Shortcut option A: subsample ``x`` and pad its channels with zeros, half in front and half at the end.

    Args:
      x: ``[batch, height, width, channels]``.
      features: channels of the result.
      stride: distance of the pixels that are kept.

    Returns:
      ``[batch, ceil(height / stride), ceil(width / stride), features]``.
    """
    missing = features - x.shape[-1]
    x = x[:, ::stride, ::stride, :]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))


class Shortcut(nn.Module):
    """The way around a block: identity, zero-padded identity (A) or projection (B where shapes change, C always)."""

    features: int
    stride: int
    option: str
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        changes_shape = self.stride != 1 or x.shape[-1] != self.features
        if self.option == "C" or (self.option == "B" and changes_shape):
            x = self.conv(self.features, 1, self.stride, name="conv")(x)
            return self.norm(name="bn")(x, relu=False)
        return zero_padded_identity(x, self.features, self.stride) if changes_shape else x


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and, in a residual net, the shortcut around them (paper, figure 5 left).

    Attributes:
      width: features of each convolution.
      stride: of the first convolution.
      residual: whether there is a shortcut.
      shortcut: its option, "A", "B" or "C".
      conv: makes a convolution, given features, kernel, stride and name.
      norm: makes a norm, given its name.
    """

    width: int
    stride: int
    residual: bool
    shortcut: str
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[batch, height, width, channels]`` to ``[batch, height / stride, width / stride, width]``."""
        gate = gate_of(self)
        branch = self.conv(self.width, 3, self.stride, name="conv1")(enter(x, gate))
        branch = self.norm(name="bn1")(branch)
        branch = self.conv(self.width, 3, name="conv2")(branch)
        shortcut = shortcut_around(self, x, self.width, gate)
        return join(self.norm(name="bn2"), branch, shortcut, gate)


class BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the last with four times the features (paper, figure 5 right).

    Attributes are those of ``BasicBlock``; ``stride_on_first`` puts the stride on the first 1x1 as in the paper, else
    it is on the 3x3 as in torchvision.
    """

    width: int
    stride: int
    residual: bool
    shortcut: str
    conv: ModuleDef
    norm: ModuleDef
    stride_on_first: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[batch, height, width, channels]`` to ``[batch, height / stride, width / stride, 4 * width]``."""
        gate = gate_of(self)
        first, middle = (self.stride, 1) if self.stride_on_first else (1, self.stride)
        branch = self.conv(self.width, 1, first, name="conv1")(enter(x, gate))
        branch = self.norm(name="bn1")(branch)
        branch = self.conv(self.width, 3, middle, name="conv2")(branch)
        branch = self.norm(name="bn2")(branch)
        branch = self.conv(4 * self.width, 1, name="conv3")(branch)
        shortcut = shortcut_around(self, x, 4 * self.width, gate)
        return join(self.norm(name="bn3"), branch, shortcut, gate)
