"""Densely connected nets: each layer sees the feature maps of all layers before it in its block.

Huang, Liu, van der Maaten and Weinberger 2016, arXiv 1608.06993. The family ``densenet`` is for small images,
``imagenet_densenet`` has the nets of their table 1.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from resnet_jax.errors import UserError
from resnet_jax.models.depth import whole_number
from resnet_jax.models.layers.conv import padded_conv
from resnet_jax.models.layers.dropout import Dropout
from resnet_jax.models.layers.head import logits_of
from resnet_jax.models.layers.norm import NORMS
from resnet_jax.models.layers.stem import ModuleDef, Stem

# Layers of each dense block (table 1; 161: the authors' code, with a growth of 48).
IMAGENET_BLOCKS = {
    121: (6, 12, 24, 16),
    161: (6, 12, 36, 24),
    169: (6, 12, 32, 32),
    201: (6, 12, 48, 32),
    264: (6, 12, 64, 48),
}
# Channels of a bottleneck, in growths (section 3).
BOTTLENECK = 4
# Layers of one loop, padded to the widest of them. On a CPU loops over 4 compile DenseNet-BC-100-12 in 0.7 of the time
# that single layers take, and a step takes as long.
LOOPED = 4


def small(config: ConfigDict, **settings: Any) -> "DenseNet":
    """Return a net for small images: three dense blocks of n layers (section 3).

    Its depth is 3n+4. With compression below 1 it is a DenseNet-BC, whose layers have a second convolution: 6n+4.

    Args:
      config: the ``model`` part of a run's config.
      **settings: the other attributes of ``DenseNet``.

    Raises:
      UserError: there is no such net.
    """
    bottleneck = config.compression < 1
    n = whole_number(config.depth, 6 if bottleneck else 3, 4)
    stem_width = 2 * config.growth if bottleneck else 16
    return dense_net(config, (n,) * 3, stem_width, bottleneck=bottleneck, **settings)


def imagenet(config: ConfigDict, **settings: Any) -> "DenseNet":
    """Return a DenseNet-BC for ImageNet (table 1); arguments and errors as in ``small``."""
    if config.depth not in IMAGENET_BLOCKS:
        raise UserError(
            f"config.model.depth={config.depth} is not a depth of the imagenet_densenet family; "
            f"choose one of {', '.join(map(str, IMAGENET_BLOCKS))}."
        )
    if config.compression == 1:
        raise UserError(
            "config.model.compression=1 is for small images; the nets of the imagenet_densenet family are compressed, "
            "the paper's by 0.5."
        )
    settings |= {"bottleneck": True, "imagenet_stem": True}
    return dense_net(config, IMAGENET_BLOCKS[config.depth], 2 * config.growth, **settings)


def dense_net(config: ConfigDict, blocks: Sequence[int], stem_width: int, **settings: Any) -> "DenseNet":
    """Return a net of dense ``blocks`` with the growth, compression, dropout and dense paths of ``config``.

    Raises:
      UserError: a transition would keep no channel, or the net is to have stochastic depth.
    """
    if config.survival < 1:
        raise UserError(
            f"config.model.survival={config.survival:g} needs shortcuts, which a DenseNet does not have; set it to 1."
        )
    width = stem_width
    for layers in blocks[:-1]:
        inputs = width + layers * config.growth
        width = int(config.compression * inputs)
        if not width:
            raise UserError(
                f"config.model.compression={config.compression:g} leaves none of the {inputs} channels of a dense "
                f"block; give more than {1 / inputs:.2g}."
            )
    return DenseNet(
        blocks,
        stem_width,
        growth=config.growth,
        compression=config.compression,
        dropout_rate=config.dropout,
        residual=config.residual,
        **settings,
    )


def seen(x: jax.Array, first: int | jax.Array | None) -> jax.Array:
    """Return ``x``, ``[batch, height, width, channels]``, with zeros for channels before ``first``, unless None."""
    if first is None:
        return x
    return jnp.where((jnp.arange(x.shape[-1]) >= first)[None, None, None], x, 0)


class DenseLayer(nn.Module):
    """Norm, ReLU and a 3x3 convolution; in a bottleneck, norm, ReLU and a 1x1 convolution come first (section 3).

    Attributes:
      growth: channels of the output.
      bottleneck: whether there is a 1x1 convolution.
      dropout_rate: rate of the dropout after each convolution.
      conv: makes a convolution, given features, kernel and name.
      norm: makes a norm, given its name.
      dropout: makes a dropout, given its rate and name.
    """

    growth: int
    bottleneck: bool
    dropout_rate: float
    conv: ModuleDef
    norm: ModuleDef
    dropout: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, first: int | jax.Array | None = None, keys: jax.Array | None = None) -> jax.Array:
        """Map ``[batch, height, width, channels]`` to ``[batch, height, width, growth]``.

        Args:
          x: the feature maps of all layers before.
          first: first channel that the convolution sees; None for all channels.
          keys: keys of the two dropouts; None where nothing is dropped.
        """
        y = seen(self.norm(name="bn1")(x), first)
        if self.bottleneck:
            y = self.conv(BOTTLENECK * self.growth, 1, name="conv1")(y)
            if keys is not None:
                y = self.dropout(self.dropout_rate)(y, keys[0])
            y = self.norm(name="bn2")(y)
        y = self.conv(self.growth, 3, name="conv2" if self.bottleneck else "conv1")(y)
        return y if keys is None else self.dropout(self.dropout_rate)(y, keys[1])


class DenseBlock(nn.Module):
    """Layers that each see the block's input and the outputs of all layers before them.

    The layers differ in the width of their input, so that each has arrays of its own, under ``block`` and its
    number. To compile faster, loops run over ``LOOPED`` layers at a time, with zeros for the channels that a layer does
    not have; these are parameters of no net, and nothing reaches them.

    Attributes:
      layers: number of layers.
      layer: makes a ``DenseLayer``, given its name.
      growth: channels that each layer adds.
      residual: whether there are dense paths; otherwise a layer sees only the layer before it.
      drops: whether activations are dropped at random.
      unroll: whether each layer is compiled by itself, which takes longer and computes the same.
      remat: whether layers are rematerialised in the backward pass instead of kept in memory.
    """

    layers: int
    layer: Callable[..., DenseLayer]
    growth: int
    residual: bool
    drops: bool
    unroll: bool
    remat: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[batch, height, width, channels]`` to the same with ``layers * growth`` channels more."""
        widths = x.shape[-1] + self.growth * jnp.arange(self.layers)
        # The first layer sees all of the block's input: its parts have passed the same layers.
        first = None if self.residual else jnp.where(jnp.arange(self.layers) > 0, widths - self.growth, 0)
        keys = jax.random.split(self.make_rng("dropout"), (self.layers, 2)) if self.drops else None
        inputs = {"at": widths, "first": first, "keys": keys}

        def part(where: Any) -> dict[str, Any]:
            return jax.tree.map(lambda leaf: leaf[where], inputs)

        # A loop shows neither laws nor outputs of the single layers.
        if self.unroll or self.is_initializing() or self.is_mutable_collection("intermediates"):
            for index in range(self.layers):
                x = self.one(x, self.layer(name=f"block{index}"), **part(index))
            return x
        for start in range(0, self.layers, LOOPED):
            x = self.loop(x, range(self.layers)[start : start + LOOPED], part(slice(start, start + LOOPED)))
        return x

    def one(
        self, x: jax.Array, layer: DenseLayer, at: jax.Array, first: jax.Array | None, keys: jax.Array | None
    ) -> jax.Array:
        """Return ``x`` with the output of ``layer`` after its channels."""
        call = nn.remat(DenseLayer.__call__) if self.remat else DenseLayer.__call__
        return jnp.concatenate([x, call(layer, x, first, keys)], axis=-1)

    def loop(self, x: jax.Array, layers: Sequence[int], inputs: dict[str, Any]) -> jax.Array:
        """Return ``x`` with the outputs of ``layers``, by a loop over these."""
        layer = self.layer(parent=None)
        own = [
            {collection: self.variables[collection][f"block{index}"] for collection in ("params", "batch_stats")}
            for index in layers
        ]
        stacked = jax.tree.map(lambda *leaves: jnp.stack([padded(leaf, leaves[-1].shape) for leaf in leaves]), *own)
        width = x.shape[-1] + self.growth * (len(layers) - 1)  # Channels of the last layer's input.

        def step(x: jax.Array, each: Any) -> tuple[jax.Array, Any]:
            variables, inputs = each
            # An index would be a gather where the batch size is free (evaluation/stablehlo.py).
            seen = jax.lax.slice_in_dim(x, 0, width, axis=3)
            y, updates = layer.apply(variables, seen, inputs["first"], inputs["keys"], mutable=["batch_stats"])
            return jax.lax.dynamic_update_slice_in_dim(x, y, inputs["at"], axis=3), updates["batch_stats"]

        x = padded(x, (*x.shape[:3], width + self.growth))
        step = jax.checkpoint(step, prevent_cse=False) if self.remat else step
        x, moved = jax.lax.scan(step, x, (stacked, inputs))
        if self.is_mutable_collection("batch_stats"):
            for place, (index, variables) in enumerate(zip(layers, own, strict=True)):
                statistics = jax.tree.map(
                    lambda old, new, place=place: new[place, : len(old)], variables["batch_stats"], moved
                )
                self.put_variable("batch_stats", f"block{index}", statistics)
        return x


def padded(x: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Return ``x`` with zeros at the end of its axes, of ``shape``."""
    return jnp.pad(x, [(0, after - before) for before, after in zip(x.shape, shape, strict=True)])


class Transition(nn.Module):
    """Norm, ReLU, 1x1 convolution and 2x2 average pooling between two dense blocks (section 3)."""

    width: int
    dropout_rate: float
    conv: ModuleDef
    norm: ModuleDef
    dropout: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, first: int | None) -> jax.Array:
        """Map ``[batch, height, width, channels]`` to ``[batch, height / 2, width / 2, width]``, sizes rounded down."""
        y = seen(self.norm(name="bn")(x), first)
        y = self.dropout(self.dropout_rate)(self.conv(self.width, 1, name="conv")(y))
        return nn.avg_pool(y, (2, 2), strides=(2, 2), padding="VALID")


class DenseNet(nn.Module):
    """A stem, dense blocks with transitions between them, global average pooling and a fully connected head.

    A DenseNet does not have a plain twin; without dense paths (``residual=False``) it stands in for one. All but the
    last ``growth`` channels in the input of a layer, a transition or the head are zero after their norm and ReLU, so
    that the net is a chain in which no path skips a layer. Only the first layer of a block sees all channels of its
    input, the output of the stem or of one transition. Parameters and initial values equal the dense net's; the weights
    of unseen channels get no gradient.

    Parameter paths read ``stage2/block3/conv1/kernel``, ``transition1/conv/kernel``.

    Attributes:
      blocks: layers of each dense block.
      stem_width: channels of the first convolution.
      growth: channels that each layer adds (k of the paper).
      compression: share of the channels that a transition keeps (theta of the paper), rounded down.
      bottleneck: whether layers have a 1x1 convolution before the 3x3.
      num_classes: width of the head.
      dropout_rate: rate of the dropout after each convolution but the first.
      residual: whether there are dense paths.
      imagenet_stem: 7x7 stem with norm, ReLU and pooling instead of only a 3x3 convolution.
      dtype: type of the computation; parameters and statistics are always float32.
      axis_name: device axis over which a batch is divided in training; None for the whole batch on one device.
      sync_batch_norm: whether batch norm takes its statistics over all devices.
      unroll: as in ``DenseBlock``.
      remat: as in ``DenseBlock``.
    """

    blocks: Sequence[int]
    stem_width: int
    growth: int
    compression: float
    bottleneck: bool
    num_classes: int
    dropout_rate: float = 0.0
    residual: bool = True
    imagenet_stem: bool = False
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
        conv = functools.partial(padded_conv, dtype=self.dtype)
        norm = NORMS["batch"](train, self.axis_name if self.sync_batch_norm else None)
        dropout = functools.partial(Dropout, train=train, axis_name=self.axis_name)
        layers: dict[str, Any] = {"conv": conv, "norm": norm, "dropout": dropout, "dropout_rate": self.dropout_rate}

        x = images.astype(self.dtype)
        x = Stem(self.stem_width, self.imagenet_stem, self.imagenet_stem, conv, norm, name="stem")(x)
        for number, depth in enumerate(self.blocks, start=1):
            x = DenseBlock(
                depth,
                functools.partial(DenseLayer, self.growth, self.bottleneck, **layers),
                self.growth,
                self.residual,
                drops=train and self.dropout_rate > 0,
                unroll=self.unroll,
                remat=self.remat,
                name=f"stage{number}",
            )(x)
            first = None if self.residual else x.shape[-1] - self.growth
            if number < len(self.blocks):
                width = int(self.compression * x.shape[-1])
                x = Transition(width, **layers, name=f"transition{number}")(x, first)
        x = seen(norm(name="bn")(x), first)
        x = jnp.mean(x, axis=(1, 2))
        return logits_of(x, self.num_classes, self.dtype)
