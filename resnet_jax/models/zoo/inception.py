"""Inception-v4, the Inception-ResNets, and plain and residual Inception nets for small images, as one Flax module.

- Szegedy, Ioffe, Vanhoucke and Alemi 2016, arXiv 1602.07261: the families ``inception_v4`` (figures 3 to 9),
  ``inception_resnet_v1`` (10 to 14) and ``inception_resnet_v2_paper`` (15 to 19).
- The Inception-ResNet-v2 that its authors released, which is another net: ``inception_resnet_v2``.
- ``inception``: three stages of n blocks for small images, whose plain and residual nets differ by the addition alone.
  Those that the paper compares differ in their blocks, too.

A net is a table, ``Architecture``, that reads like the figures: a branch is a sequence of steps, a step is a
convolution with norm and ReLU, a pooling or branches side by side, and branches are concatenated. A plain net is the
residual net with ``residual=False``: both have the same parameter tree.

Widths, kernels, paddings and the epsilon of the norms equal the released nets'. Initial values (He), the momentum
of running statistics (0.9, there 0.9997) and the absence of auxiliary heads are as in the other families here.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from resnet_jax.errors import UserError
from resnet_jax.models.block import Block
from resnet_jax.models.depth import whole_number
from resnet_jax.models.layers.conv import Pair, padded_conv
from resnet_jax.models.layers.dropout import Dropout
from resnet_jax.models.layers.head import logits_of
from resnet_jax.models.layers.norm import NORMS
from resnet_jax.models.layers.stem import ModuleDef
from resnet_jax.models.stage import Stage
from resnet_jax.models.variants.stochastic_depth import survival_probabilities

# Side of the smallest image from which the ImageNet nets have a pixel left before the head.
SMALLEST_IMAGE = 75


class Conv(NamedTuple):
    """A convolution, then norm and ReLU; padded by half its kernel unless it is ``valid``."""

    features: int
    kernel: int | Pair = 1
    stride: int = 1
    valid: bool = False


Pool = Callable[[jax.Array], jax.Array]
Branches: TypeAlias = "tuple[Branch, ...]"
Step: TypeAlias = "Conv | Pool | Branches"
Branch: TypeAlias = "tuple[Step, ...]"


class Blocks(NamedTuple):
    """The blocks of one stage.

    Attributes:
      repeats: number of blocks.
      branches: branches of each block.
      up: features of the 1x1 convolution after the branches, as many as the block's input has; None without it.
      scale: factor of the branches before the addition.
      is_activated: whether ReLU comes last.
      reduction: branches that halve height and width before the blocks, without a shortcut; empty without.
    """

    repeats: int
    branches: Branches
    up: int | None = None
    scale: float = 1.0
    is_activated: bool = True
    reduction: Branches = ()


class Architecture(NamedTuple):
    """An Inception net but for its head.

    Attributes:
      stem: layers before the first stage.
      stages: the stages in their order.
      top: layers after the last stage.
      up_norm: norm after each convolution ``up``, a name in ``NORMS``; "none" is a bias.
      epsilon: epsilon of the batch norms.
    """

    stem: Branch
    stages: tuple[Blocks, ...]
    top: Branch = ()
    up_norm: str = "none"
    epsilon: float = 1e-3


def max_pool(x: jax.Array) -> jax.Array:
    """Return maxima of 3x3 pixels with stride 2, without padding."""
    return nn.max_pool(x, (3, 3), strides=(2, 2))


def padded_max_pool(x: jax.Array) -> jax.Array:
    """Return maxima of 3x3 pixels with stride 2, padded as the 3x3 convolutions are."""
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


def average_pool(x: jax.Array) -> jax.Array:
    """Return averages of the 3x3 pixels around each pixel; at the border, of those that there are."""
    return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)


def halving(features: int) -> Conv:
    """Return a 3x3 convolution with stride 2, without padding."""
    return Conv(features, 3, 2, valid=True)


def reduction_a(k: int, l: int, m: int, n: int) -> Branches:  # noqa: E741
    """Return the reduction from 35x35 to 17x17 pixels, in the letters of figure 7 and table 1."""
    return (halving(n),), (Conv(k), Conv(l, 3), halving(m)), (max_pool,)


def reduction_b(first: int, second: int, middle: int, third: int) -> Branches:
    """Return the reduction from 17x17 to 8x8 pixels of Inception-ResNets (figures 13 and 18).

    Args:
      first: features of the first branch.
      second: of the second branch.
      middle: of the middle convolution of the third branch.
      third: of the third branch.
    """
    return (
        (Conv(256), halving(first)),
        (Conv(256), halving(second)),
        (Conv(256), Conv(middle, 3), halving(third)),
        (max_pool,),
    )


# Of v4 and, in the paper, of v2 (figure 3).
STEM_V4 = (
    *(halving(32), Conv(32, 3, valid=True), Conv(64, 3)),
    ((max_pool,), (halving(96),)),
    (
        (Conv(64), Conv(96, 3, valid=True)),
        (Conv(64), Conv(64, (1, 7)), Conv(64, (7, 1)), Conv(96, 3, valid=True)),
    ),
    ((halving(192),), (max_pool,)),
)
# Where the stems of Inception-v3, of v1 and of the released v2 are the same (figure 14).
STEM_V3 = (halving(32), Conv(32, 3, valid=True), Conv(64, 3), max_pool, Conv(80), Conv(192, 3, valid=True))

V4 = Architecture(
    stem=STEM_V4,
    stages=(
        Blocks(  # Figure 4.
            4,
            (
                (Conv(96),),
                (Conv(64), Conv(96, 3)),
                (Conv(64), Conv(96, 3), Conv(96, 3)),
                (average_pool, Conv(96)),
            ),
        ),
        Blocks(  # Figures 5 and 7.
            7,
            (
                (Conv(384),),
                (Conv(192), Conv(224, (1, 7)), Conv(256, (7, 1))),
                (Conv(192), Conv(192, (7, 1)), Conv(224, (1, 7)), Conv(224, (7, 1)), Conv(256, (1, 7))),
                (average_pool, Conv(128)),
            ),
            reduction=reduction_a(192, 224, 256, 384),
        ),
        Blocks(  # Figures 6 and 8.
            3,
            (
                (Conv(256),),
                (Conv(384), ((Conv(256, (1, 3)),), (Conv(256, (3, 1)),))),
                (
                    *(Conv(384), Conv(448, (3, 1)), Conv(512, (1, 3))),
                    ((Conv(256, (1, 3)),), (Conv(256, (3, 1)),)),
                ),
                (average_pool, Conv(256)),
            ),
            reduction=(
                (Conv(192), halving(192)),
                (Conv(256), Conv(256, (1, 7)), Conv(320, (7, 1)), halving(320)),
                (max_pool,),
            ),
        ),
    ),
)

# The paper says that scales of 0.1 to 0.3 stabilise training (section 3.3); these are the released ones.
SCALE_A, SCALE_B, SCALE_C = 0.17, 0.10, 0.20

RESNET_V1 = Architecture(
    stem=(*STEM_V3, halving(256)),
    stages=(
        Blocks(  # Figure 10.
            *(5, ((Conv(32),), (Conv(32), Conv(32, 3)), (Conv(32), Conv(32, 3), Conv(32, 3)))),
            *(256, SCALE_A),
        ),
        Blocks(  # Figures 11 and 7.
            *(10, ((Conv(128),), (Conv(128), Conv(128, (1, 7)), Conv(128, (7, 1))))),
            *(896, SCALE_B),
            reduction=reduction_a(192, 192, 256, 384),
        ),
        Blocks(  # Figures 13 and 12.
            *(5, ((Conv(192),), (Conv(192), Conv(192, (1, 3)), Conv(192, (3, 1))))),
            *(1792, SCALE_C),
            reduction=reduction_b(384, 256, 256, 256),
        ),
    ),
)

# Of v2, in the paper (figures 16, 17 and 19) and released.
BRANCHES_A = ((Conv(32),), (Conv(32), Conv(32, 3)), (Conv(32), Conv(48, 3), Conv(64, 3)))
BRANCHES_B = ((Conv(192),), (Conv(128), Conv(160, (1, 7)), Conv(192, (7, 1))))
BRANCHES_C = ((Conv(192),), (Conv(192), Conv(224, (1, 3)), Conv(256, (3, 1))))

RESNET_V2_PAPER = Architecture(
    stem=STEM_V4,
    stages=(
        Blocks(5, BRANCHES_A, 384, SCALE_A),
        # The figures print 1154 and 2048 features, which would not fit the reductions' 1152 and 2144.
        Blocks(10, BRANCHES_B, 1152, SCALE_B, reduction=reduction_a(256, 256, 384, 384)),
        Blocks(5, BRANCHES_C, 2144, SCALE_C, reduction=reduction_b(384, 288, 288, 320)),
    ),
)

RESNET_V2 = Architecture(
    stem=(
        *(*STEM_V3, max_pool),
        (
            (Conv(96),),
            (Conv(48), Conv(64, 5)),
            (Conv(64), Conv(96, 3), Conv(96, 3)),
            (average_pool, Conv(64)),
        ),
    ),
    stages=(
        Blocks(10, BRANCHES_A, 320, SCALE_A),
        Blocks(20, BRANCHES_B, 1088, SCALE_B, reduction=reduction_a(256, 256, 384, 384)),
        Blocks(9, BRANCHES_C, 2080, SCALE_C, reduction=reduction_b(384, 288, 288, 320)),
        Blocks(1, BRANCHES_C, 2080, is_activated=False),
    ),
    top=(Conv(1536),),
)

# Table and title of each family's net.
IMAGENET_NETS = {
    "inception_v4": (V4, "Inception-v4"),
    "inception_resnet_v1": (RESNET_V1, "Inception-ResNet-v1"),
    "inception_resnet_v2": (RESNET_V2, "Inception-ResNet-v2"),
    "inception_resnet_v2_paper": (RESNET_V2_PAPER, "Inception-ResNet-v2 of the paper"),
}


def small_net(n: int, width: int) -> Architecture:
    """Return a net of 12n+8 layers: three stages of n blocks, of ``width`` and twice and four times as many features.

    Blocks have no average pooling, which would be another way around their weights.
    """

    def blocks(width: int, reduction: Branches = ()) -> Blocks:
        unit = width // 4
        branches = (
            (Conv(unit),),
            (Conv(unit), Conv(unit, 3)),
            (Conv(unit), Conv(3 * unit // 2, 3), Conv(2 * unit, 3)),
        )
        return Blocks(n, branches, up=width, reduction=reduction)

    def reduction(width: int) -> Branches:
        half, unit = width // 2, width // 4
        return (padded_max_pool,), (Conv(half, 3, 2),), (Conv(unit), Conv(unit, 3), Conv(half, 3, 2))

    stages = blocks(width), blocks(2 * width, reduction(width)), blocks(4 * width, reduction(2 * width))
    return Architecture((Conv(width, 3),), stages, up_norm="batch", epsilon=1e-5)


def depth(net: Architecture) -> int:
    """Return the number of weighted layers on the longest path through ``net`` and its head."""

    def longest(branches: Branches) -> int:
        return max(map(length, branches), default=0)

    def length(branch: Branch) -> int:
        return sum(map(layers, branch))

    def layers(step: Step) -> int:
        if callable(step):
            return 0
        return 1 if isinstance(step, Conv) else longest(step)

    stages = sum(
        longest(stage.reduction) + stage.repeats * (longest(stage.branches) + (stage.up is not None))
        for stage in net.stages
    )
    return length(net.stem) + stages + length(net.top) + 1


def small_inception(config: ConfigDict, **settings: Any) -> "Inception":
    """Return an Inception net for small images.

    Args:
      config: the ``model`` part of a run's config.
      **settings: the other attributes of ``Inception``.

    Raises:
      UserError: there is no such net.
    """
    n = whole_number(config.depth, 12, 8)
    width = 16 * config.widening
    if width % 8:
        raise UserError(
            f"config.model.widening={config.widening:g} makes an Inception net of width {width:g}, whose branches are "
            "eighths of it; give a multiple of 0.5."
        )
    return inception(config, small_net(n, round(width)), **settings)


def imagenet_inception(config: ConfigDict, **settings: Any) -> "Inception":
    """Return an Inception net for ImageNet; arguments and errors as in ``small_inception``."""
    net, title = IMAGENET_NETS[config.family]
    if config.depth != depth(net):
        raise UserError(f"config.model.depth={config.depth}: {title} has {depth(net)} layers; give that depth.")
    if config.widening != 1:
        raise UserError(f"config.model.widening={config.widening:g}: {title} has no other widths than its own; give 1.")
    if config.residual and not is_residual(net):
        raise UserError(
            f"config.model.residual=True: {title} has no shortcuts; give config.model.residual=False, or "
            "config.model.family='inception_resnet_v2'."
        )
    return inception(config, net, **settings)


def is_residual(net: Architecture) -> bool:
    """Return whether ``net`` has a residual twin: whether its branches end in the shape of their input."""
    return net.stages[0].up is not None


def inception(config: ConfigDict, net: Architecture, **settings: Any) -> "Inception":
    """Return ``net`` with the shortcuts, scales, dropout and survival of ``config``.

    Raises:
      UserError: the parts do not go together.
    """
    if config.survival < 1 and not config.residual:
        raise UserError(
            f"config.model.survival={config.survival:g} needs shortcuts to carry on where branches are dropped; "
            "give config.model.residual=True or survival 1."
        )
    return Inception(
        net=net,
        residual=config.residual,
        residual_scale=config.residual_scale,
        dropout_rate=config.dropout,
        survival=survival_probabilities(
            sum(stage.repeats for stage in net.stages), config.survival, config.survival_rule
        ),
        **settings,
    )


class Steps(nn.Module):
    """The steps of a branch in sequence; layers are numbered by the place of their step, as conv2 and bn2."""

    steps: Branch
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[batch, height, width, channels]`` to the output of the last step."""
        for place, step in enumerate(self.steps, 1):
            if callable(step):
                x = step(x)
            elif isinstance(step, Conv):
                x = self.norm(name=f"bn{place}")(self.conv(*step, name=f"conv{place}")(x))
            else:
                x = Mixed(step, self.conv, self.norm, name=f"mixed{place}")(x)
        return x


class Mixed(nn.Module):
    """Branches side by side, whose outputs are concatenated."""

    branches: Branches
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[batch, height, width, channels]`` to the outputs of all branches along the last axis."""
        return concatenated(self, x)


def concatenated(module: nn.Module, x: jax.Array) -> jax.Array:
    """Return the outputs of the branches of ``module`` for ``x`` along the last axis."""
    outputs = [
        Steps(branch, module.conv, module.norm, name=f"branch{index}")(x)
        for index, branch in enumerate(module.branches, 1)
    ]
    return jnp.concatenate(outputs, axis=-1)


class InceptionBlock(Block, kw_only=True):
    """An Inception block: relu(x + s up(branches)) or, plain, relu(up(branches)) (section 3.3 of the paper).

    The scale s belongs to the residual block: the plain one has none, and keeps none when a gate adds x to it.

    Attributes:
      branches: branches to be concatenated.
      up: features of the 1x1 convolution that follows; None for none.
      scale: s.
      is_activated: whether ReLU comes last.
      up_norm: makes the norm of ``up``, given its name.
      stride: 1, because reductions halve the sizes.
    """

    branches: Branches
    up: int | None
    scale: float
    is_activated: bool
    up_norm: ModuleDef

    def branch(self, x: jax.Array) -> jax.Array:
        """S up(branches)."""
        y = concatenated(self, x)
        if self.up is not None:
            y = self.up_norm(name="up_norm")(self.conv(self.up, 1, name="up")(y), activate=False)
        return self.scale * y if self.residual else y

    def activate(self, x: jax.Array) -> jax.Array:
        """ReLU, where it comes last."""
        return nn.relu(x) if self.is_activated else x


class Inception(nn.Module):
    """A stem, stages of blocks with reductions between them, global average pooling and a fully connected head.

    Parameter paths read ``stage2/blocks/branch3/conv1/kernel``, of all its blocks; ``reduction1`` precedes ``stage2``.

    Attributes:
      net: the table of the net.
      num_classes: width of the head.
      residual: whether blocks have shortcuts.
      residual_scale: factor of the scales of ``net``.
      dropout_rate: rate of the dropout before the head.
      survival: probability that each block's branches are computed in training; empty without stochastic depth.
      dtype: type of the computation; parameters and statistics are always float32.
      axis_name: device axis over which a batch is divided in training; None for the whole batch on one device.
      sync_batch_norm: whether batch norm takes its statistics over all devices.
      unroll: as in ``Stage``.
      remat: as in ``Stage``.
    """

    net: Architecture
    num_classes: int
    residual: bool
    residual_scale: float = 1.0
    dropout_rate: float = 0.0
    survival: Sequence[float] = ()
    dtype: Any = jnp.float32
    axis_name: str | None = None
    sync_batch_norm: bool = False
    unroll: bool = False
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map normalised images ``[batch, height, width, channels]`` to logits ``[batch, num_classes]``.

        Logits are float32, or wider where the computation is.

        Raises:
          UserError: the images are too small for the net.
        """
        net, axis_name = self.net, self.axis_name if self.sync_batch_norm else None
        conv = functools.partial(padded_conv, dtype=self.dtype)
        norm = functools.partial(NORMS["batch"](train, axis_name), epsilon=net.epsilon)
        up_norm = norm if net.up_norm == "batch" else NORMS[net.up_norm](train, axis_name)

        x = Steps(net.stem, conv, norm, name="stem")(images.astype(self.dtype))
        before = 0  # Blocks of the stages before.
        for index, stage in enumerate(net.stages):
            if stage.reduction:
                x = Mixed(stage.reduction, conv, norm, name=f"reduction{index}")(x)
            block = functools.partial(
                InceptionBlock,
                branches=stage.branches,
                up=stage.up,
                scale=self.residual_scale * stage.scale,
                is_activated=stage.is_activated,
                residual=self.residual,
                train=train,
                conv=conv,
                norm=norm,
                up_norm=up_norm,
            )
            x = Stage(
                stage.repeats,
                stride=1,
                block=block,
                unroll=self.unroll,
                remat=self.remat,
                survival=self.survival[before : before + stage.repeats],
                alike=True,
                name=f"stage{index + 1}",
            )(x)
            before += stage.repeats
        if net.top:
            x = Steps(net.top, conv, norm, name="top")(x)
        if 0 in x.shape:
            height, width = images.shape[1:3]
            raise UserError(
                f"images of {height}x{width} pixels are too small for config.model.family: its convolutions without "
                f"padding need {SMALLEST_IMAGE}x{SMALLEST_IMAGE}; give larger ones (config.data.image_size), or "
                "config.model.family='inception'."
            )
        x = jnp.mean(x, axis=(1, 2))
        if self.dropout_rate:
            x = Dropout(self.dropout_rate, train, self.axis_name, name="dropout")(x)
        return logits_of(x, self.num_classes, self.dtype)
