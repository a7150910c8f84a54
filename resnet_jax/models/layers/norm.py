"""Normalisation layers, each with the addition of a shortcut and the activation, so that these can be one operation.

All follow one protocol: ``norm(x, shortcut=None, activate=True, gain=None)`` returns

    activation(gain * normalise(x) + shortcut)

for ``x`` and ``shortcut`` of ``[batch, height, width, channels]``, of the type of ``x``; a shortcut may be ``Scaled``.
``NORMS`` is the table of them.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resnet_jax.fields import ActivationName, NormName, bind
from resnet_jax.models.layers import init
from resnet_jax.models.layers.addition import Addend, whole

# Rows whose sum is one of the partial sums. With less, the partial sums are an array of their own size; with more, too
# few blocks of a GPU work, and XLA gives up fusing the operations before the sum.
_ROWS = 64
_CHANNELS = (None, None, None)  # Makes [channels] an array that goes with [batch, height, width, channels].

Activation = Callable[[jax.Array], jax.Array]


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015), the shortcut's addition and ReLU as one operation.

    It has the variables of ``nn.BatchNorm``, all float32: parameters "scale" and "bias", statistics "mean" and "var".
    The backward pass of the whole operation needs only the layer's input, not its output.

    Attributes:
      train: whether to normalise by the batch, moving the running statistics towards it, or by these.
      axis_name: device axis over which the batch's statistics are taken; None keeps them to each device.
      momentum: share of the old running statistics in the new.
      epsilon: added to the variance.
      activation: the activation; another than ReLU is an operation of its own.
    """

    train: bool
    axis_name: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    activation: Activation = nn.relu

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        shortcut: Addend | None = None,
        activate: bool = True,
        gain: jax.typing.ArrayLike | None = None,
    ) -> jax.Array:
        """Return ``activation(gain * normalised x + shortcut)``."""
        shape = (x.shape[-1],)
        scale = self.param("scale", init.ones, shape)
        bias = self.param("bias", init.zeros, shape)
        if gain is not None:
            scale, bias = gain * scale, gain * bias
        relu = activate and self.activation is nn.relu
        running_mean = self.variable("batch_stats", "mean", init.zeros, None, shape)
        running_var = self.variable("batch_stats", "var", init.ones, None, shape)
        if not self.train:
            factor = scale * jax.lax.rsqrt(running_var.value + self.epsilon)
            y = _affine(x, factor, bias - running_mean.value * factor, shortcut, relu)
        else:
            axis_name = None if self.is_initializing() else self.axis_name
            y, mean, var = normalise_by_batch(x, scale, bias, shortcut, relu, axis_name, self.epsilon)
            if not self.is_initializing():
                for running, batch in ((running_mean, mean), (running_var, var)):
                    running.value = self.momentum * running.value + (1 - self.momentum) * batch
        return self.activation(y) if activate and not relu else y


class GroupNorm(nn.Module):
    """Group normalisation (Wu and He 2018): statistics of each image, over 32 groups of channels or fewer."""

    groups: int = 32
    epsilon: float = 1e-5
    activation: Activation = nn.relu

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        shortcut: Addend | None = None,
        activate: bool = True,
        gain: jax.typing.ArrayLike | None = None,
    ) -> jax.Array:
        """Return ``activation(gain * normalised x + shortcut)``."""
        shape = (x.shape[-1],)
        scale = self.param("scale", init.ones, shape)
        bias = self.param("bias", init.zeros, shape)
        if gain is not None:
            scale, bias = gain * scale, gain * bias
        groups = math.gcd(self.groups, x.shape[-1])
        plain = nn.GroupNorm(groups, epsilon=self.epsilon, use_bias=False, use_scale=False, dtype=jnp.float32)
        relu = activate and self.activation is nn.relu
        y = _affine(plain(x).astype(x.dtype), scale, bias, shortcut, relu)
        return self.activation(y) if activate and not relu else y


class Bias(nn.Module):
    """No normalisation: only a bias for each channel, like a convolution's bias in a net without norms.

    Attributes:
      is_scalar: whether all channels have one bias (Fixup).
      bias_init: law of its initial value.
      activation: the activation.
    """

    is_scalar: bool = False
    bias_init: init.Law = init.zeros
    activation: Activation = nn.relu

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        shortcut: Addend | None = None,
        activate: bool = True,
        gain: jax.typing.ArrayLike | None = None,
    ) -> jax.Array:
        """Return ``activation(gain * (x + bias) + shortcut)``."""
        channels = (x.shape[-1],)
        bias = jnp.broadcast_to(self.param("bias", self.bias_init, () if self.is_scalar else channels), channels)
        factor = jnp.ones_like(bias) if gain is None else jnp.broadcast_to(gain, channels)
        y = _affine(x, factor, factor * bias, shortcut, relu=False)
        return self.activation(y) if activate else y


def crelu(x: jax.Array) -> jax.Array:
    """Return ``[relu(x), relu(-x)]``, of twice the channels (Shang et al. 2016, arXiv 1603.05201)."""
    return jnp.concatenate([nn.relu(x), nn.relu(-x)], axis=-1)


# Functions after a norm.
ACTIVATIONS: dict[str, Activation] = bind(
    "model.activation",
    {
        ActivationName.RELU: nn.relu,
        ActivationName.TANH: jnp.tanh,
        ActivationName.CRELU: crelu,
        ActivationName.SWISH: nn.swish,
        ActivationName.GELU: functools.partial(nn.gelu, approximate=False),
    },
)
# Makers of norm layers, given whether the net trains and the device axis of its statistics.
NORMS: dict[str, Callable[[bool, str | None], Callable[..., nn.Module]]] = bind(
    "model.norm",
    {
        NormName.BATCH: lambda train, axis_name: functools.partial(BatchNorm, train=train, axis_name=axis_name),
        NormName.GROUP: lambda train, axis_name: GroupNorm,
        NormName.NONE: lambda train, axis_name: Bias,
    },
)


def _affine(x: jax.Array, factor: jax.Array, offset: jax.Array, shortcut: Addend | None, relu: bool) -> jax.Array:
    """Return ``relu(factor * x + offset + shortcut)``, computed in float32, of the type of ``x``."""
    y = x * factor[_CHANNELS] + offset[_CHANNELS]
    if shortcut is not None:
        y = y + whole(shortcut)
    return (nn.relu(y) if relu else y).astype(x.dtype)


def _channel_sums(*terms: jax.Array) -> jax.Array:
    """Return the sums of ``terms``, all of one shape, over all but the last axis: ``[terms, channels]``."""
    return jax.lax.platform_dependent(
        *terms, cpu=_channel_sums_by_product, tpu=_channel_sums_at_once, default=_channel_sums_in_two_stages
    )


def _channel_sums_at_once(*terms: jax.Array) -> jax.Array:
    """Return the sums; XLA:TPU makes them part of the convolutions around them."""
    return jnp.stack([jnp.sum(term, axis=tuple(range(term.ndim - 1))) for term in terms])


def _channel_sums_in_two_stages(*terms: jax.Array) -> jax.Array:
    """Return the same: sums of groups of rows, and then of all groups of all terms, each one kernel of a GPU.

    XLA:GPU would make two stages by itself, but the second one for each term.
    """
    channels = terms[0].shape[-1]
    group = math.gcd(terms[0].size // channels, _ROWS)
    return jnp.sum(jnp.stack([jnp.sum(term.reshape(-1, group, channels), axis=1) for term in terms]), axis=1)


def _channel_sums_by_product(*terms: jax.Array) -> jax.Array:
    """Return the same; XLA:CPU sums over images five times as fast by a matrix product."""

    def over_images(x: jax.Array) -> jax.Array:
        sums = jnp.ones((1, x.shape[0]), x.dtype) @ x.reshape(x.shape[0], -1)
        return jnp.sum(sums.reshape(-1, x.shape[-1]), axis=0)

    return jnp.stack([over_images(term) for term in terms])


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def normalise_by_batch(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    shortcut: Addend | None,
    relu: bool,
    axis_name: str | None,
    epsilon: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return ``relu(scale * (x - mean) / sqrt(var + epsilon) + bias + shortcut)``, and mean and biased variance.

    No gradient flows through the mean and the variance that are returned.

    Args:
      x: ``[batch, height, width, channels]``.
      scale: float32 ``[channels]``.
      bias: float32 ``[channels]``.
      shortcut: like ``x``, or ``Scaled``, or None.
      relu: whether ReLU comes last.
      axis_name: device axis over which mean and variance are taken, or None.
      epsilon: added to the variance.
    """
    return _normalise_forward(x, scale, bias, shortcut, relu, axis_name, epsilon)[0]


def _mean_over(axis_name: str | None, *values: jax.Array) -> tuple[jax.Array, ...]:
    return values if axis_name is None else jax.lax.pmean(values, axis_name)


def _normalise_forward(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    shortcut: Addend | None,
    relu: bool,
    axis_name: str | None,
    epsilon: float,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Any]:
    count = x.size // x.shape[-1]
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean, square = _mean_over(axis_name, *(_channel_sums(wide, wide * wide) / count))
    var = jnp.maximum(square - mean * mean, 0)
    inverse = jax.lax.rsqrt(var + epsilon)
    factor = scale * inverse
    offset = bias - mean * factor
    y = _affine(x, factor, offset, shortcut, relu)
    return (y, mean, var), (x, shortcut, mean, inverse, factor, offset)


def _normalise_backward(
    relu: bool, axis_name: str | None, epsilon: float, saved: Any, gradients: tuple[jax.Array, jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array, Addend | None]:
    x, shortcut, mean, inverse, factor, offset = saved
    gradient = gradients[0]
    if relu:
        y = _affine(x, factor, offset, shortcut, relu=False)
        gradient = jnp.where(y > 0, gradient, 0)
    wide = gradient.astype(jnp.promote_types(gradient.dtype, jnp.float32))
    normalised = (x - mean[_CHANNELS]) * inverse[_CHANNELS]
    by_scale, by_bias = _channel_sums(wide * normalised, wide)
    # Ioffe and Szegedy 2015, section 3, with the mean and the variance as functions of x.
    count = x.size // x.shape[-1]
    mean_by_scale, mean_by_bias = _mean_over(axis_name, by_scale / count, by_bias / count)
    by_x = factor[_CHANNELS] * (wide - mean_by_bias[_CHANNELS] - normalised * mean_by_scale[_CHANNELS])
    by_shortcut = None if shortcut is None else jax.vjp(whole, shortcut)[1](gradient)[0]
    return by_x.astype(x.dtype), by_scale, by_bias, by_shortcut


normalise_by_batch.defvjp(_normalise_forward, _normalise_backward)
