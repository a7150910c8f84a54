"""The blocks of residual nets: a branch, a shortcut, and where the two are joined."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from resnet_jax.models import init
from resnet_jax.models.gates import RESIDUAL, Gate, gate_of, gated, gradient_scaled
from resnet_jax.models.remedies import UNSCALED, BranchScaling
from resnet_jax.models.shortcuts import (
    PREACTIVATIONS,
    ModuleDef,
    changes_shape,
    has_projection,
    identity,
    shortcut_around,
)

BOTTLENECK_STRIDES = ("first", "middle")
ORDERS = ("original", "norm_after_addition", "relu_before_addition", "relu_preactivation", "preactivation")


class Convolution(NamedTuple):
    """One convolution of a branch: features, side of the kernel, stride."""

    features: int
    kernel: int
    stride: int


class Block(nn.Module):
    """A branch of convolutions and, in a residual net, the shortcut around it.

    For a branch of two convolutions the orders of norm, ReLU and addition (He et al. 2016, arXiv 1603.05027, figure 4)
    are, with S the shortcut:

    ====================  ==========================================
    original              relu(S + norm conv relu norm conv x)
    norm_after_addition   relu(norm(S + conv relu norm conv x))
    relu_before_addition  S + relu norm conv relu norm conv x
    relu_preactivation    S + norm conv relu norm conv relu x
    preactivation         S + conv relu norm conv relu norm x
    ====================  ==========================================

    Attributes:
      width: features of the convolutions, but for the last of a bottleneck.
      stride: of the block.
      residual: whether there is a shortcut.
      shortcut: its option, as ``config.model.shortcut``.
      order: as above.
      is_activated: whether the input is activated already, as that of the first block of a pre-activation net.
      gating_bias: initial bias of learned gating.
      dropout_rate: of dropout before the last convolution.
      scaling: of the branch, a row of ``remedies.BRANCH_SCALINGS``.
      branches: how many the net has, by which Fixup scales the initial values.
      train: whether branches are dropped at random and the branch's statistics are those of the batch.
      conv: makes a convolution, given features, kernel, stride and name.
      norm: makes a norm, given its name.
      dropout: makes a dropout, given its rate.
    """

    width: int
    stride: int
    residual: bool
    shortcut: str
    train: bool
    conv: ModuleDef
    norm: ModuleDef
    dropout: ModuleDef
    order: str = "original"
    is_activated: bool = False
    gating_bias: float = 0.0
    dropout_rate: float = 0.0
    scaling: BranchScaling = UNSCALED
    branches: int = 1

    def convolutions(self) -> tuple[Convolution, ...]:
        """Return the convolutions of the branch."""
        raise NotImplementedError

    @nn.compact
    def __call__(
        self, x: jax.Array, survival: jax.Array | None = None, input_scale: jax.Array | None = None
    ) -> jax.Array:
        """Map ``[batch, height, width, channels]`` to ``[batch, height / stride, width / stride, features]``.

        Args:
          x: the input.
          survival: probability that the branch is computed in training (stochastic depth); None without.
          input_scale: what the branch multiplies its activated input by (normalizer-free nets); None for 1.
        """
        gate = gate_of(self)
        features = self.convolutions()[-1].features
        shares = shares_beginning(self, x, features, gate)
        # A projection shares the first activation with the branch (He et al. 2016, appendix); an identity takes x.
        seen = beginning(self, x, input_scale) if shares else x
        shortcut, share = shortcut_around(self, seen, features, gate)

        def output(block: nn.Module, seen: jax.Array, gate: Gate | None) -> jax.Array:
            y = enter(seen, gate)
            y = y if shares else beginning(block, y, input_scale)
            return join(block, branch_without_norm(block, y), shortcut, share, gate)

        def dropped() -> jax.Array:
            # A plain block that is dropped passes its input on.
            y = identity(seen, features, self.stride) if shortcut is None else shortcut
            return nn.relu(y) if self.order == "original" else y

        return with_survival(self, seen, learned_gain(self, gate), survival, output, dropped)


class BasicBlock(Block):
    """Two 3x3 convolutions (paper, figure 5 left).

    Attributes:
      reserved: further channels of the hidden layer, as ``config.model.reserve``.
    """

    reserved: int = 0

    def convolutions(self) -> tuple[Convolution, ...]:
        """Return the convolutions of the branch."""
        return Convolution(self.width + self.reserved, 3, self.stride), Convolution(self.width, 3, 1)


class SingleBlock(Block):
    """A single 3x3 convolution (He et al. 2015, section 3.2; 2016, section 5.1)."""

    def convolutions(self) -> tuple[Convolution, ...]:
        """Return the convolution of the branch."""
        return (Convolution(self.width, 3, self.stride),)


class BottleneckBlock(Block):
    """1x1, 3x3 and 1x1 convolutions, the last with four times the features (paper, figure 5 right).

    Attributes:
      stride_on_first: whether the stride is on the first 1x1 as in the paper, else on the 3x3 as in torchvision.
      widening: what the features of the first two convolutions are multiplied by (wide-50-2).
    """

    stride_on_first: bool = True
    widening: float = 1.0

    def convolutions(self) -> tuple[Convolution, ...]:
        """Return the convolutions of the branch."""
        first, middle = (self.stride, 1) if self.stride_on_first else (1, self.stride)
        inner = round(self.widening * self.width)
        return Convolution(inner, 1, first), Convolution(inner, 3, middle), Convolution(4 * self.width, 1, 1)


def with_survival(
    block: nn.Module,
    x: jax.Array,
    gate: Gate | None,
    survival: jax.Array | None,
    output: Callable[[nn.Module, jax.Array, Gate | None], jax.Array],
    dropped: Callable[[], jax.Array],
) -> jax.Array:
    """Return the output of ``block``, whose branch is computed with probability ``survival`` in training.

    In evaluation all branches are computed; those with a shortcut times ``survival`` (Huang et al. 2016, equation 5).

    Args:
      block: the running block.
      x: its input, as the branch sees it.
      gate: of the block; None for the ungated net.
      survival: the probability; None without stochastic depth.
      output: of the block with its branch, given block, input and gate.
      dropped: returns the output of the block without its branch.
    """
    if survival is None or block.is_initializing():
        return output(block, x, gate)
    if not block.train:
        if block.residual:
            gate = gate or RESIDUAL
            gate = gate._replace(branch=survival * gate.branch)
        return output(block, x, gate)
    survives = jax.random.bernoulli(block.make_rng("survival"), survival)
    without = dropped()
    if block.is_mutable_collection("intermediates"):  # A conditional cannot record the layers of one side alone.
        return jnp.where(survives, output(block, x, gate), without)
    return nn.cond(survives, lambda block, x: output(block, x, gate), lambda block, x: without, block, x)


def scalar(block: nn.Module, name: str, law: init.Law, like: jax.Array) -> jax.Array:
    """Return the learned number ``name`` of ``block``, of the type of ``like``."""
    return jnp.asarray(block.param(name, law, ()), like.dtype)


def learned_gain(block: nn.Module, gate: Gate | None) -> Gate | None:
    """Return ``gate`` with the learned scalar of the branch as a factor of its gain (SkipInit, ReZero)."""
    if block.scaling.gain is None:
        return gate
    gain = block.scaling.constant * block.param("gain", init.constant(block.scaling.gain), ())
    gate = gate or RESIDUAL
    return gate._replace(branch=gain * gate.branch)


def shares_beginning(block: nn.Module, x: jax.Array, features: int, gate: Gate | None) -> bool:
    """Return whether the shortcut of ``block`` begins as its branch does: a projection, and Fixup's change of shape."""
    fixup = block.scaling.has_scalar_biases and changes_shape(block, x, features)
    return fixup or has_projection(block, x, features, gate)


def beginning(block: nn.Module, x: jax.Array, input_scale: jax.Array | None) -> jax.Array:
    """Return what the first convolution of the branch of ``block`` sees of ``x``."""
    if block.scaling.has_scalar_biases:
        return x + scalar(block, "bias1a", init.zeros, x)
    y = first_activation(block, x)
    return y if input_scale is None else jnp.asarray(input_scale, y.dtype) * y


def first_activation(block: nn.Module, x: jax.Array) -> jax.Array:
    """Return the activated ``x`` with which the branch of a pre-activation block begins, of other blocks ``x``."""
    if block.order not in PREACTIVATIONS or block.is_activated:
        return x
    return nn.relu(x) if block.order == "relu_preactivation" else block.norm(name="bn1")(x)


def branch_without_norm(block: nn.Module, y: jax.Array) -> jax.Array:
    """Return the convolutions of the branch of ``block`` on ``y``, up to the last one."""
    convolutions, fixup = block.convolutions(), block.scaling.has_scalar_biases
    last = len(convolutions)
    for index, convolution in enumerate(convolutions, 1):
        if index > 1:
            y = block.norm(name=f"bn{index if block.order == 'preactivation' else index - 1}")(y)
            y = y + scalar(block, f"bias{index}a", init.zeros, y) if fixup else y
        if index == last and block.dropout_rate:
            y = block.dropout(block.dropout_rate)(y)
        law = {"kernel_init": fixup_law(block.branches, last, index)} if fixup else {}
        y = block.conv(*convolution, **law, name=f"conv{index}")(y)
    return scalar(block, "scale", init.ones, y) * y if fixup else y


def fixup_law(branches: int, layers: int, index: int) -> init.Law:
    """Return the law of convolution ``index``, from 1, of the ``layers`` of a branch (Zhang et al. 2019, section 3).

    The last is zero; the others are He's times ``branches ** (-1 / (2 * layers - 2))``.
    """
    return init.zeros if index == layers else init.gaussian(2 * branches ** (-1 / (layers - 1)))


def join(
    block: nn.Module, branch: jax.Array, shortcut: jax.Array | None, share: jax.Array | None, gate: Gate | None
) -> jax.Array:
    """Return the output of ``block``, ``relu(norm(branch) + shortcut)`` (paper, equation 1) or what its order says.

    The last norm of the branch is applied here because norm, addition and ReLU are one operation.

    Args:
      block: of which the norm is made.
      branch: its convolutions, ``[batch, height, width, features]``.
      shortcut: as ``branch``; None in a plain net.
      share: what the branch is multiplied by under exclusive gating, or None.
      gate: of the block; None for the ungated net.
    """
    if block.order == "preactivation":
        return add(branch, shortcut, gate)
    norm = block.norm(name=f"bn{len(block.convolutions())}")
    if share is not None:
        return nn.relu(add(share * norm(branch, relu=False), shortcut, gate))
    match block.order:
        case "norm_after_addition":
            return norm(add(branch, shortcut, gate))
        case "relu_before_addition":
            return add(norm(branch), shortcut, gate)
        case "relu_preactivation":
            return norm(branch, shortcut, relu=False, gate=gate)
    return norm(branch, shortcut, gate=gate)


def add(branch: jax.Array, shortcut: jax.Array | None, gate: Gate | None) -> jax.Array:
    """Return ``branch + shortcut`` as ``gate`` has it, where the branch does not end in a norm."""
    if gate is not None:
        branch = jnp.asarray(gate.branch, branch.dtype) * branch
    shortcut = gated(shortcut, gate)
    return branch if shortcut is None else branch + shortcut


def enter(x: jax.Array, gate: Gate | None) -> jax.Array:
    """Return what the branch of a block sees of its input ``x``: the same, with the gradient as the gate has it.

    At its output such a gate would take the gradient from the branch's own parameters too.
    """
    return x if gate is None else gradient_scaled(x, gate.branch_gradient)
