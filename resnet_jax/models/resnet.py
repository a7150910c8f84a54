"""Plain and residual nets as one Flax module.

- He et al. 2015, sections 3.3, 4.1 and 4.2: the families ``cifar`` and ``imagenet``.
- He et al. 2016, arXiv 1603.05027: the same with other orders of norm, ReLU and addition, and other shortcuts.
- Zagoruyko and Komodakis 2016, arXiv 1605.07146: the family ``wide``.

A plain net is the residual net with ``residual=False``: the shortcut is all that differs. With shortcut option A
(zero-padded identity) the two have the same parameter tree.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from resnet_jax.errors import UserError
from resnet_jax.fields import BlockName, OrderName, ShortcutName
from resnet_jax.models.block import ConvBlock, basic
from resnet_jax.models.depth import whole_number
from resnet_jax.models.layers.dropout import Dropout
from resnet_jax.models.layers.head import logits_of
from resnet_jax.models.layers.init import INITS, Laws
from resnet_jax.models.layers.norm import ACTIVATIONS, NORMS
from resnet_jax.models.layers.parametrization import PARAMETRIZATIONS
from resnet_jax.models.layers.stem import ModuleDef, Stem
from resnet_jax.models.stage import Stage
from resnet_jax.models.variants import VARIANTS, choices, resolved
from resnet_jax.models.variants.stochastic_depth import survival_probabilities

# Paper, table 1: block, and number of blocks in conv2_x to conv5_x; 200: He et al. 2016, section 5.2.
IMAGENET_STAGES: dict[int, tuple[str, tuple[int, ...]]] = {
    18: (BlockName.BASIC.value, (2, 2, 2, 2)),
    34: (BlockName.BASIC.value, (3, 4, 6, 3)),
    50: (BlockName.BOTTLENECK.value, (3, 4, 6, 3)),
    101: (BlockName.BOTTLENECK.value, (3, 4, 23, 3)),
    152: (BlockName.BOTTLENECK.value, (3, 8, 36, 3)),
    200: (BlockName.BOTTLENECK.value, (3, 24, 36, 3)),
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
    convolutions = len(VARIANTS["block"][config.block].options(config)["convolutions"](1, 1))
    n = whole_number(config.depth, 9 if convolutions == 3 else 6, 2)
    return residual_net(config, ((2 if convolutions == 1 else 1) * n,) * 3, (16, 32, 64), **settings)


def wide(config: ConfigDict, **settings: Any) -> "ResNet":
    """Return a wide net: depth 6n+4, three stages of n pre-activation blocks (Zagoruyko and Komodakis 2016, table 1).

    The depth counts the projections, which are where the widths change. Arguments and errors as in ``cifar``.
    """
    n = whole_number(config.depth, 6, 4)
    return residual_net(config, (n,) * 3, (16, 32, 64), **settings)


def imagenet(config: ConfigDict, **settings: Any) -> "ResNet":
    """Return an ImageNet net of table 1 of the paper; arguments and errors as in ``cifar``."""
    if config.depth not in IMAGENET_STAGES:
        raise UserError(
            f"config.model.depth={config.depth} is not a depth of the imagenet family; "
            f"choose one of {', '.join(map(str, IMAGENET_STAGES))}."
        )
    _, stage_sizes = IMAGENET_STAGES[config.depth]
    return residual_net(config, stage_sizes, (64, 128, 256, 512), imagenet_stem=True, **settings)


def with_family_fields(config: ConfigDict) -> ConfigDict:
    """Return ``config`` with the fields that its family decides."""
    config = config.copy_and_resolve_references()
    if config.family == "wide":
        config.update(block=BlockName.BASIC.value, order=OrderName.PREACTIVATION.value, shortcut=ShortcutName.B.value)
        config.update(stem_activation=True, reserve=False)
    if config.family == "imagenet":
        config.block, _ = IMAGENET_STAGES[config.depth]
    return config


def effective(config: ConfigDict) -> ConfigDict:
    """Return ``config``, the ``model`` part of a run's config, with the fields that its family and choices decide.

    Raises:
      UserError: the choices do not go together.
    """
    return resolved(with_family_fields(config))


def residual_net(config: ConfigDict, stage_sizes: Sequence[int], widths: Sequence[int], **settings: Any) -> "ResNet":
    """Return a net of blocks according to ``config``: orders, shortcuts, widening, dropout, remedies.

    Raises:
      UserError: the parts do not go together.
    """
    config = effective(config)
    variants = choices(config)
    block = next(variant.block for variant in variants.values() if variant.block is not None)
    options: dict[str, Any] = {"dropout_rate": config.dropout}
    further: dict[str, Any] = {"laws": INITS[config.init](config.depth)}
    for variant in reversed(variants.values()):  # Earlier choices go before later ones.
        options |= variant.options(config)
        further |= variant.net(config, stage_sizes)
    stem_width = widths[0]
    whole = [config.widening * width for width in widths]
    if any(width != round(width) for width in whole):
        raise UserError(f"config.model.widening={config.widening:g} makes widths {whole} that are not whole numbers.")
    if config.block != BlockName.BOTTLENECK:  # In bottlenecks only the inner convolutions are widened.
        widths = [round(width) for width in whole]
    return ResNet(
        stage_sizes=stage_sizes,
        widths=widths,
        stem_width=stem_width,
        block=block,
        residual=config.residual,
        stem_activation=config.stem_activation,
        norm=config.norm,
        reserve=config.reserve,
        activation=config.activation,
        parametrization=config.parametrization,
        survival=survival_probabilities(sum(stage_sizes), config.survival, config.survival_rule),
        **further | settings | {"options": options | further.get("options", {})},
    )


class ResNet(nn.Module):
    """A stem, stages of blocks, global average pooling and a fully connected head.

    Parameter paths read ``stage2/block3/conv1/kernel``, with alike blocks stacked (``stacking.py``).

    Attributes:
      stage_sizes: number of blocks of each stage.
      widths: width of the blocks of each stage; every stage but the first halves height and width.
      num_classes: width of the head.
      residual: whether blocks have shortcuts.
      block: class of the blocks.
      options: further attributes of the blocks.
      stem_width: width of the stem; None for the width of the first stage.
      imagenet_stem: 7x7 stem with pooling instead of the 3x3 one.
      stem_norm: whether there is a norm in the stem.
      stem_activation: whether there is an activation in the stem, else in the first block.
      first: further attributes of the net's first block.
      finish: applies the layers after the last block, given its output, the maker of norms and the activation.
      survival: probability that each block's branch is computed in training; empty without stochastic depth.
      numbers: a further argument of each block; empty without.
      norm: norm of all layers, a name in ``NORMS``.
      norm_settings: further attributes of the norms.
      reserve: whether hidden layers have as many more channels as the input of their block.
      activation: activation of all layers, a name in ``ACTIVATIONS``.
      parametrization: parametrisation of the convolutions, a name in ``PARAMETRIZATIONS``.
      laws: laws of the initial values; Fixup has its own.
      dtype: type of the computation; parameters and statistics are always float32.
      axis_name: device axis over which a batch is divided in training; None for the whole batch on one device.
      sync_batch_norm: whether batch norm takes its statistics over all devices.
      unroll: whether the loops over blocks are unrolled.
      remat: whether blocks are rematerialised in the backward pass.
    """

    stage_sizes: Sequence[int]
    widths: Sequence[int]
    num_classes: int
    residual: bool = True
    block: type[ConvBlock] = ConvBlock
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stem_width: int | None = None
    imagenet_stem: bool = False
    stem_norm: bool = True
    stem_activation: bool = True
    first: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    finish: Callable[..., jax.Array] = lambda x, norm, activation: x
    survival: Sequence[float] = ()
    numbers: Sequence[float] = ()
    norm: str = "batch"
    norm_settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reserve: bool = False
    activation: str = "relu"
    parametrization: str = "free"
    laws: Laws = Laws()
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
        activation = ACTIVATIONS[self.activation]
        layers: dict[str, Any] = {"conv": conv, "norm": norm, "dropout": dropout, "activation": activation}
        block = functools.partial(self.block, residual=self.residual, train=train, **layers, **self.options)

        stem_width = self.stem_width or self.widths[0]
        stem = Stem(stem_width, self.imagenet_stem, self.stem_norm, stem_conv, norm, self.stem_activation, name="stem")
        x = stem(images.astype(self.dtype))
        before = 0  # Blocks of the stages before.
        for index, (blocks, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            first = {} if index else dict(self.first)
            reserved: dict[str, Any] = {}
            if self.reserve:
                first["convolutions"] = functools.partial(basic, reserved=x.shape[-1])
                reserved["convolutions"] = functools.partial(basic, reserved=width)
            own = slice(before, before + blocks)
            x = Stage(
                blocks,
                stride=2 if index else 1,
                block=functools.partial(block, width=width, **reserved),
                unroll=self.unroll,
                remat=self.remat,
                survival=self.survival[own],
                numbers=self.numbers[own],
                first=first,
                name=f"stage{index + 1}",
            )(x)
            before += blocks
        x = self.finish(x, norm, activation)
        x = jnp.mean(x, axis=(1, 2))
        return logits_of(x, self.num_classes, self.dtype, self.laws.head)

    def norm_of_layers(self, train: bool) -> ModuleDef:
        """Return the maker of the norms.

        Their scales start at 1 everywhere: a last scale of zero, popular in residual nets, would leave a plain net
        without any gradient.
        """
        norm = NORMS[self.norm](train, self.axis_name if self.sync_batch_norm else None)
        bias = {"bias_init": self.laws.bias} if self.norm == "none" else {}
        return functools.partial(norm, activation=ACTIVATIONS[self.activation], **bias, **self.norm_settings)
