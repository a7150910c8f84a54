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
from ml_collections import ConfigDict

from resnet_jax.errors import UserError
from resnet_jax.models import init
from resnet_jax.models.blocks import BasicBlock, BottleneckBlock, ModuleDef
from resnet_jax.models.conv import padded_conv
from resnet_jax.models.norm import NORMS
from resnet_jax.models.stage import Stage

# Paper, table 1: blocks in conv2_x to conv5_x.
IMAGENET_STAGES = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (BottleneckBlock, (3, 4, 6, 3)),
    101: (BottleneckBlock, (3, 4, 23, 3)),
    152: (BottleneckBlock, (3, 8, 36, 3)),
}


def cifar(config: ConfigDict, **settings: Any) -> "ResNet":
    """Return a CIFAR net: depth 6n+2, three stages of n blocks (paper, section 4.2).

    Args:
      config: the ``model`` part of a run's config.
      **settings: the other attributes of ``ResNet``.

    Raises:
      UserError: there is no net of this depth.
    """
    blocks, remainder = divmod(config.depth - 2, 6)
    if remainder or blocks < 1:
        below = config.depth - remainder
        near = f"the nearest depths are {below} and {below + 6}" if blocks >= 1 else "the smallest depth is 8"
        raise UserError(f"config.model.depth={config.depth} is not 6n+2 for a whole number n of at least 1; {near}.")
    block = functools.partial(BasicBlock, residual=config.residual, shortcut=config.shortcut)
    return ResNet(stage_sizes=(blocks,) * 3, widths=(16, 32, 64), block=block, **settings)


def imagenet(config: ConfigDict, **settings: Any) -> "ResNet":
    """Return an ImageNet net of table 1 of the paper; arguments and errors are those of ``cifar``."""
    if config.depth not in IMAGENET_STAGES:
        raise UserError(
            f"config.model.depth={config.depth} is not a depth of the imagenet family; "
            f"choose one of {', '.join(map(str, IMAGENET_STAGES))}."
        )
    block_type, stage_sizes = IMAGENET_STAGES[config.depth]
    block: Callable = functools.partial(block_type, residual=config.residual, shortcut=config.shortcut)
    if block_type is BottleneckBlock:
        block = functools.partial(block, stride_on_first=config.bottleneck_stride == "first")
    return ResNet(stage_sizes=stage_sizes, widths=(64, 128, 256, 512), block=block, imagenet_stem=True, **settings)


class Stem(nn.Module):
    """The layers before the first stage: 3x3 on CIFAR, 7x7 with stride 2 and 3x3 max pooling on ImageNet."""

    width: int
    imagenet: bool
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv(self.width, 7 if self.imagenet else 3, 2 if self.imagenet else 1, name="conv")(x)
        x = self.norm(name="bn")(x)
        if self.imagenet:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        return x


class ResNet(nn.Module):
    """A stem, stages of blocks, global average pooling and a fully connected head.

    Parameter paths read ``stage2/block0/conv1/kernel``, of the stacked blocks ``stage2/rest/conv1/kernel``.

    Attributes:
      stage_sizes: blocks of each stage.
      widths: width of the blocks of each stage; every stage but the first halves height and width.
      block: makes a block of this net, given its width, stride, convolution, norm and name.
      num_classes: width of the head.
      imagenet_stem: 7x7 stem with pooling instead of the 3x3 one.
      norm: of all layers, a name in ``NORMS``.
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
    norm: str = "batch"
    dtype: Any = jnp.float32
    axis_name: str | None = None
    unroll: bool = False
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map normalised images ``[batch, height, width, channels]`` to logits ``[batch, num_classes]``.

        Logits are float32, or wider where the computation is.
        """
        conv = functools.partial(padded_conv, dtype=self.dtype)
        # Scales start at 1 everywhere: a last scale of zero, popular in residual nets, would leave a plain net
        # without any gradient.
        norm = NORMS[self.norm](train, self.axis_name)
        x = images.astype(self.dtype)
        x = Stem(self.widths[0], self.imagenet_stem, conv, norm, name="stem")(x)
        for index, (blocks, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            block = functools.partial(self.block, width=width, conv=conv, norm=norm)
            stride = 1 if index == 0 else 2
            x = Stage(blocks, stride, block, self.unroll, self.remat, name=f"stage{index + 1}")(x)
        x = jnp.mean(x, axis=(1, 2))
        head = nn.Dense(
            self.num_classes, dtype=self.dtype, kernel_init=init.he_normal, bias_init=init.zeros, name="head"
        )
        return head(x).astype(jnp.promote_types(self.dtype, jnp.float32))
