"""Plain and residual nets as one Flax module.

- He et al. 2015, sections 3.3, 4.1 and 4.2: the families ``cifar`` and ``imagenet``.
- He et al. 2016, arXiv 1603.05027: the same with other orders of norm, ReLU and addition, and other shortcuts.
- Zagoruyko and Komodakis 2016, arXiv 1605.07146: the family ``wide``.
- Huang et al. 2016, arXiv 1603.09382: stochastic depth, of all of these.

A plain net is the residual net with ``residual=False``: the shortcut is all that differs. With shortcut option A
(zero-padded identity) the two have the same parameter tree.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from resnet_jax.errors import UserError
from resnet_jax.models.blocks import PREACTIVATIONS, BasicBlock, Block, BottleneckBlock, ModuleDef, SingleBlock
from resnet_jax.models.dropout import Dropout
from resnet_jax.models.head import logits_of
from resnet_jax.models.init import INITS, Laws, zeros
from resnet_jax.models.norm import ACTIVATIONS, NORMS
from resnet_jax.models.parametrization import PARAMETRIZATIONS
from resnet_jax.models.remedies import BRANCH_SCALINGS, UNSCALED, BranchScaling, check_repvgg, completed, input_scales
from resnet_jax.models.shortcuts import REPVGG
from resnet_jax.models.stage import Stage

# Of a cifar net: the block, and how many a stage has for each of the layers that ``LAYERS_PER_STEP`` counts.
CIFAR_BLOCKS: dict[str, tuple[type[Block], int]] = {
    "basic": (BasicBlock, 1),
    "bottleneck": (BottleneckBlock, 1),
    "single": (SingleBlock, 2),
    "repvgg": (SingleBlock, 2),
}
# Paper, table 1: blocks in conv2_x to conv5_x; 200: He et al. 2016, section 5.2.
IMAGENET_STAGES: dict[int, tuple[type[Block], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (BottleneckBlock, (3, 4, 6, 3)),
    101: (BottleneckBlock, (3, 4, 23, 3)),
    152: (BottleneckBlock, (3, 8, 36, 3)),
    200: (BottleneckBlock, (3, 24, 36, 3)),
}


def cifar(config: ConfigDict, **settings: Any) -> "ResNet":
    """Return a net for small images: three stages of n blocks (paper, section 4.2).

    Its depth is 6n+2, with bottlenecks 9n+2 (He et al. 2016, section 5.1). A stage has 2n blocks if these have a single
    convolution.

    Args:
      config: the ``model`` part of a run's config.
      **settings: the other attributes of ``ResNet``.

    Raises:
      UserError: there is no such net.
    """
    block, blocks_per_n = CIFAR_BLOCKS[config.block]
    n = whole_number(config.depth, 9 if block is BottleneckBlock else 6, 2)
    if config.block == "repvgg":
        check_repvgg(config)
        config = config.copy_and_resolve_references()
        config.shortcut = REPVGG
    return residual_net(config, block, (blocks_per_n * n,) * 3, (16, 32, 64), **settings)


def wide(config: ConfigDict, **settings: Any) -> "ResNet":
    """Return a wide net: depth 6n+4, three stages of n pre-activation blocks (Zagoruyko and Komodakis 2016, table 1).

    The depth counts the projections, which are where the widths change. Arguments and errors are those of ``cifar``.
    """
    n = whole_number(config.depth, 6, 4)
    config = config.copy_and_resolve_references()
    config.update(block="basic", order="preactivation", shortcut="B", stem_activation=True, reserve=False)
    return residual_net(config, BasicBlock, (n,) * 3, (16, 32, 64), **settings)


def imagenet(config: ConfigDict, **settings: Any) -> "ResNet":
    """Return an ImageNet net of table 1 of the paper; arguments and errors are those of ``cifar``."""
    if config.depth not in IMAGENET_STAGES:
        raise UserError(
            f"config.model.depth={config.depth} is not a depth of the imagenet family; "
            f"choose one of {', '.join(map(str, IMAGENET_STAGES))}."
        )
    block, stage_sizes = IMAGENET_STAGES[config.depth]
    config = config.copy_and_resolve_references()
    config.block = "bottleneck" if block is BottleneckBlock else "basic"
    return residual_net(config, block, stage_sizes, (64, 128, 256, 512), imagenet_stem=True, **settings)


def whole_number(depth: int, layers: int, others: int) -> int:
    """Return n for which ``depth`` is ``layers`` times n plus ``others``.

    Raises:
      UserError: there is no n of at least 1.
    """
    n, remainder = divmod(depth - others, layers)
    if remainder or n < 1:
        below = depth - remainder
        near = (
            f"the nearest depths are {below} and {below + layers}"
            if n >= 1
            else f"the smallest depth is {layers + others}"
        )
        raise UserError(
            f"config.model.depth={depth} is not {layers}n+{others} for a whole number n of at least 1; {near}."
        )
    return n


def residual_net(
    config: ConfigDict, block: type[Block], stage_sizes: Sequence[int], widths: Sequence[int], **settings: Any
) -> "ResNet":
    """Return a net of ``block`` with what ``config`` says of orders, shortcuts, widening, dropout and remedies.

    Raises:
      UserError: the parts do not go together.
    """
    check_parts(config)
    if config.reserve and block is not BasicBlock:
        raise UserError(
            f"config.model.reserve=True is for basic blocks, but this net has a {block.__name__}; give False."
        )
    config, scaling = completed(config), BRANCH_SCALINGS[config.branch_scaling]
    options = {
        "residual": config.residual,
        "shortcut": config.shortcut,
        "order": config.order,
        "gating_bias": config.gating_bias,
        "dropout_rate": config.dropout,
        "scaling": scaling,
        "branches": sum(stage_sizes),
    }
    stem_width = widths[0]
    if block is BottleneckBlock:
        options |= {"stride_on_first": config.bottleneck_stride == "first", "widening": config.widening}
        whole = [config.widening * width for width in widths]
    else:
        whole = widths = [config.widening * width for width in widths]
    if any(width != round(width) for width in whole):
        raise UserError(f"config.model.widening={config.widening:g} makes widths {whole} that are not whole numbers.")
    return ResNet(
        stage_sizes=stage_sizes,
        widths=[round(width) for width in widths],
        stem_width=stem_width,
        block=functools.partial(block, **options),
        order=config.order,
        stem_activation=config.stem_activation,
        norm=config.norm,
        reserve=config.reserve,
        activation=config.activation,
        parametrization=config.parametrization,
        laws=INITS[config.init](config.depth),
        scaling=scaling,
        survival=survival_probabilities(sum(stage_sizes), config.survival, config.survival_rule),
        **settings,
    )


def check_parts(config: ConfigDict) -> None:
    """Raise a UserError for parts of a net that do not go together."""
    if config.survival < 1 and config.order == "norm_after_addition":
        raise UserError(
            f"config.model.survival={config.survival:g} leaves nothing to compute where a branch is dropped, but "
            "config.model.order='norm_after_addition' has a norm there; give another order."
        )
    if config.residual and config.shortcut == "exclusive_gating" and config.order != "original":
        raise UserError(
            f"config.model.shortcut='exclusive_gating' is defined for order 'original', not for {config.order!r}."
        )
    if not config.stem_activation and config.order != "preactivation":
        raise UserError(
            f"config.model.stem_activation=False is for order 'preactivation', not for {config.order!r}; give True."
        )


def survival_probabilities(blocks: int, last: float, rule: str) -> tuple[float, ...]:
    """Return the probability that each block's branch is computed in training (Huang et al. 2016, equation 4).

    Args:
      blocks: of the net.
      last: that of the last block.
      rule: "linear", falling from 1 before the first block, or "uniform".

    Returns:
      One for each block; none at all if all are 1.
    """
    if last == 1:
        return ()
    if rule == "uniform":
        return (last,) * blocks
    return tuple(1 - np.arange(1, blocks + 1) / blocks * (1 - last))


class Stem(nn.Module):
    """The layers before the first stage: 3x3 on CIFAR, 7x7 with stride 2 and 3x3 max pooling on ImageNet."""

    width: int
    imagenet: bool
    has_norm: bool
    conv: ModuleDef
    norm: ModuleDef
    relu: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv(self.width, 7 if self.imagenet else 3, 2 if self.imagenet else 1, name="conv")(x)
        if self.has_norm:
            x = self.norm(name="bn")(x, relu=self.relu)
        if self.imagenet:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        return x


class ResNet(nn.Module):
    """A stem, stages of blocks, global average pooling and a fully connected head.

    Parameter paths read ``stage2/block0/conv1/kernel``, of the stacked blocks ``stage2/rest/conv1/kernel``.

    Attributes:
      stage_sizes: blocks of each stage.
      widths: width of the blocks of each stage; every stage but the first halves height and width.
      block: makes a block of this net, given its width, stride, layers and name.
      num_classes: width of the head.
      stem_width: width of the stem; None for that of the first stage.
      imagenet_stem: 7x7 stem with pooling instead of the 3x3 one.
      order: of the blocks. After pre-activation blocks comes one more activation (He et al. 2016, appendix).
      stem_activation: whether norm and ReLU come in the stem, else in the first block.
      survival: probability that each block's branch is computed in training; empty without stochastic depth.
      norm: of all layers, a name in ``NORMS``.
      reserve: whether hidden layers have as many more channels as the input of their block.
      activation: of all layers, a name in ``ACTIVATIONS``; without norms alone it may be another than ReLU.
      parametrization: of the convolutions, a name in ``PARAMETRIZATIONS``.
      laws: of the initial values; Fixup has its own.
      scaling: of the branches, as of the blocks.
      dtype: type of the computation; parameters and statistics are always float32.
      axis_name: device axis over which a batch is divided in training; None for the whole batch on one device.
      sync_batch_norm: whether batch norm takes its statistics over all devices.
      unroll: as of the stages.
      remat: as of the stages.
    """

    stage_sizes: Sequence[int]
    widths: Sequence[int]
    block: Callable[..., nn.Module]
    num_classes: int
    stem_width: int | None = None
    imagenet_stem: bool = False
    order: str = "original"
    stem_activation: bool = True
    survival: Sequence[float] = ()
    norm: str = "batch"
    reserve: bool = False
    activation: str = "relu"
    parametrization: str = "free"
    laws: Laws = Laws()
    scaling: BranchScaling = UNSCALED
    dtype: Any = jnp.float32
    axis_name: str | None = None
    sync_batch_norm: bool = False
    unroll: bool = False
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map normalised images ``[batch, height, width, channels]`` to logits ``[batch, num_classes]``.

        Logits are float32, or wider where the computation is.
        """
        parametrized = PARAMETRIZATIONS[self.parametrization]
        stem_conv = functools.partial(parametrized.stem, dtype=self.dtype, kernel_init=self.laws.stem)
        conv = functools.partial(parametrized.block, dtype=self.dtype, kernel_init=self.laws.kernel)
        norm = self.norm_of_layers(train)
        dropout = functools.partial(Dropout, train=train, axis_name=self.axis_name)
        layers = {"train": train, "conv": conv, "norm": norm, "dropout": dropout}

        x = images.astype(self.dtype)
        stem_width = self.stem_width or self.widths[0]
        relu = self.stem_activation
        # Blocks of ReLU-only pre-activation have no norm before their first convolution.
        has_norm = relu or self.order == "relu_preactivation"
        x = Stem(stem_width, self.imagenet_stem, has_norm, stem_conv, norm, relu, name="stem")(x)
        preactivated = self.order in PREACTIVATIONS
        scales = input_scales(self.stage_sizes, self.scaling)
        before = 0  # Blocks of the stages before.
        for index, (blocks, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            first = index == 0
            block = functools.partial(self.block, width=width, **layers)
            of_first: dict[str, Any] = {}
            if first and self.stem_activation and preactivated:
                of_first["is_activated"] = True
            if self.reserve:
                block = functools.partial(block, reserved=width)
                of_first["reserved"] = x.shape[-1]
            own = slice(before, before + blocks)
            x = Stage(
                blocks,
                stride=1 if first else 2,
                block=block,
                unroll=self.unroll,
                remat=self.remat,
                survival=self.survival[own],
                input_scales=scales[own],
                first=of_first,
                name=f"stage{index + 1}",
            )(x)
            before += blocks
        fixup = self.scaling.has_scalar_biases
        if self.order == "preactivation" or fixup:
            x = norm(name="bn")(x, relu=not fixup)
        elif self.order == "relu_preactivation":
            x = nn.relu(x)
        x = jnp.mean(x, axis=(1, 2))
        return logits_of(x, self.num_classes, self.dtype, zeros if fixup else self.laws.head)

    def norm_of_layers(self, train: bool) -> ModuleDef:
        """Return what makes the norms.

        Their scales start at 1 everywhere: a last scale of zero, popular in residual nets, would leave a plain net
        without any gradient.
        """
        norm = NORMS[self.norm](train, self.axis_name if self.sync_batch_norm else None)
        if self.norm != "none":
            return norm
        activation, is_scalar = ACTIVATIONS[self.activation], self.scaling.has_scalar_biases
        return functools.partial(norm, is_scalar=is_scalar, bias_init=self.laws.bias, activation=activation)
