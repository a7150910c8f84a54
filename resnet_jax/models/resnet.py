"""Plain and residual nets as one Flax module (He et al. 2015, sections 3.3, 4.1 and 4.2).

A plain net is the residual net with ``residual=False``: the shortcut is all that differs. With shortcut option A
(zero-padded identity) the two have the same parameter tree.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resnet_jax.models.layers import BatchNorm, he_normal, square_conv

# A convolution or batch norm of which all but its own size and name is settled, so that blocks need not know of it.
# ReLU, and before it the addition of a shortcut, belong to the norm.
Layer = Callable[..., nn.Module]

# Names the blocks of a stage behind the first, whose parameters are stacked.
REST = "rest"


def zero_padded_identity(x: jax.Array, features: int, stride: int) -> jax.Array:
    """Shortcut option A: subsample ``x`` and pad its channels with zeros, half in front and half behind.

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
    conv: Layer
    norm: Layer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        changes_shape = self.stride != 1 or x.shape[-1] != self.features
        if self.option == "C" or (self.option == "B" and changes_shape):
            x = self.conv(self.features, 1, self.stride, name="conv")(x)
            return self.norm(relu=False, name="bn")(x)
        return zero_padded_identity(x, self.features, self.stride) if changes_shape else x


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and, in a residual net, the shortcut around them (paper, figure 5 left)."""

    width: int
    stride: int
    residual: bool
    shortcut: str
    conv: Layer
    norm: Layer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[batch, height, width, channels]`` to ``[batch, height / stride, width / stride, features]``."""
        branch = self.conv(self.width, 3, self.stride, name="conv1")(x)
        branch = self.norm(name="bn1")(branch)
        branch = self.conv(self.width, 3, name="conv2")(branch)
        return self.norm(name="bn2")(branch, shortcut_around(self, x, self.width))


class BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the last with four times the features (paper, figure 5 right).

    ``stride_on_first`` puts the stride on the first 1x1 as in the paper, else it is on the 3x3 as in torchvision.
    """

    width: int
    stride: int
    residual: bool
    shortcut: str
    conv: Layer
    norm: Layer
    stride_on_first: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[batch, height, width, channels]`` to ``[batch, height / stride, width / stride, 4 * width]``."""
        first, middle = (self.stride, 1) if self.stride_on_first else (1, self.stride)
        branch = self.conv(self.width, 1, first, name="conv1")(x)
        branch = self.norm(name="bn1")(branch)
        branch = self.conv(self.width, 3, middle, name="conv2")(branch)
        branch = self.norm(name="bn2")(branch)
        branch = self.conv(4 * self.width, 1, name="conv3")(branch)
        return self.norm(name="bn3")(branch, shortcut_around(self, x, 4 * self.width))


def shortcut_around(block: BasicBlock | BottleneckBlock, x: jax.Array, features: int) -> jax.Array | None:
    """Return what a residual net adds to its branch (paper, equation 2), and None in a plain one."""
    if not block.residual:
        return None
    return Shortcut(features, block.stride, block.shortcut, block.conv, block.norm, name="shortcut")(x)


class Stem(nn.Module):
    """The layers before the first stage: 3x3 on CIFAR, 7x7 with stride 2 and 3x3 max pooling on ImageNet."""

    width: int
    imagenet: bool
    conv: Layer
    norm: Layer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv(self.width, 7 if self.imagenet else 3, 2 if self.imagenet else 1, name="conv")(x)
        x = self.norm(name="bn")(x)
        if self.imagenet:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        return x


class Stage(nn.Module):
    """Blocks on feature maps of one size; the first takes the stride, and the rest, all alike, are a loop.

    The parameters of the rest are stacked along a first axis, and so compile time does not grow with the depth.

    Attributes:
      blocks: how many.
      stride: of the first.
      block: all but its stride settled.
      unroll: whether the loop is written out, which compiles longer and computes the same.
      remat: whether the backward pass computes what is within a block anew instead of keeping it in memory.
    """

    blocks: int
    stride: int
    block: Callable[..., nn.Module]
    unroll: bool = False
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def apply(block: nn.Module, x: jax.Array, _: None) -> tuple[jax.Array, None]:
            return block(x), None

        step = nn.remat(apply, prevent_cse=False) if self.remat else apply
        x, _ = step(self.block(stride=self.stride, name="block0"), x, None)
        if self.blocks > 1:
            loop = nn.scan(
                step,
                variable_axes={"params": 0, "batch_stats": 0, "intermediates": 0},
                split_rngs={"params": True},
                length=self.blocks - 1,
                unroll=self.blocks - 1 if self.unroll else 1,
            )
            x, _ = loop(self.block(stride=1, name=REST), x, None)
        return x


class ResNet(nn.Module):
    """A stem, stages of blocks, global average pooling and a fully connected head.

    Parameter paths read ``stage2/block0/conv1/kernel``, of the stacked blocks ``stage2/rest/conv1/kernel``.

    Attributes:
      stage_sizes: blocks of each stage.
      widths: width of the blocks of each stage; every stage but the first halves height and width.
      block: the block of this net, all but its width, stride, convolution and norm settled.
      num_classes: width of the head.
      imagenet_stem: 7x7 stem with pooling instead of the 3x3 one.
      dtype: type of the computation; parameters and statistics are always float32.
      axis_name: device axis over which batch norm takes its statistics; None keeps them to each device.
      unroll: as of the stages.
      remat: as of the stages.
    """

    stage_sizes: Sequence[int]
    widths: Sequence[int]
    block: Callable[..., nn.Module]
    num_classes: int
    imagenet_stem: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None
    unroll: bool = False
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map normalised images ``[batch, height, width, channels]`` to logits ``[batch, num_classes]``.

        Logits are float32, or more where the computation is.
        """
        conv = functools.partial(square_conv, dtype=self.dtype)
        # Scales start at 1 everywhere: a last scale of zero, popular in residual nets, would leave a plain net
        # without any gradient.
        norm = functools.partial(BatchNorm, train=train, axis_name=self.axis_name)
        x = images.astype(self.dtype)
        x = Stem(self.widths[0], self.imagenet_stem, conv, norm, name="stem")(x)
        for index, (blocks, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            block = functools.partial(self.block, width=width, conv=conv, norm=norm)
            stride = 1 if index == 0 else 2
            x = Stage(blocks, stride, block, self.unroll, self.remat, name=f"stage{index + 1}")(x)
        x = jnp.mean(x, axis=(1, 2))
        head = nn.Dense(self.num_classes, kernel_init=he_normal, dtype=self.dtype, name="head")
        return head(x).astype(jnp.promote_types(self.dtype, jnp.float32))
