"""Convolutions whose kernel is a function of learned parameters; ``PARAMETRIZATIONS`` is the table of them."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from resnet_jax.models.layers import init
from resnet_jax.models.layers.conv import convolve, padded_conv

# 1 over the deviation of relu(z), z from N(0, 1): by this gain standardised weights keep a variance of 1 through ReLU.
RELU_GAIN = math.sqrt(2 / (1 - 1 / math.pi))
_FEATURES = (None, None, None)  # makes [features] go with [height, width, channels, features].
_FAN_IN = (0, 1, 2)


class DiracConv(nn.Module):
    """A convolution by ``a * delta + b * W / |W|`` (Zagoruyko and Komodakis 2017, arXiv 1706.00388, section 3).

    delta is the identity on the first min(channels, features) channels, |W| the norm of each filter. The parameters are
    W, "kernel", and for each feature a, "identity_gain", and b, "kernel_gain".
    """

    features: int
    side: int
    stride: int = 1
    dtype: Any = None
    kernel_init: init.Law = init.he_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.side, self.side, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        identity_gain = self.param("identity_gain", init.ones, (self.features,))
        kernel_gain = self.param("kernel_gain", init.constant(0.1), (self.features,))
        centre = self.side // 2
        delta = jnp.zeros(shape, kernel.dtype).at[centre, centre].set(jnp.eye(*shape[2:], dtype=kernel.dtype))
        unit = kernel / jnp.sqrt(jnp.sum(kernel**2, _FAN_IN, keepdims=True))
        return convolved(x, identity_gain[_FEATURES] * delta + kernel_gain[_FEATURES] * unit, self.stride, self.dtype)


class StandardizedConv(nn.Module):
    """A convolution by scaled standardised weights (Brock et al. 2021, arXiv 2101.08692, equation 3).

    Each filter W is ``gain * input_gain * (W - mean) / (sqrt(fan-in) * deviation)``, with mean and deviation over its
    own weights. The parameters are W, "kernel", and a "gain" for each feature.

    Attributes:
      input_gain: gain of the activation before it; on the weights it has the same effect as on the activation.
      epsilon: least value of fan-in times variance, as in the authors' code.
    """

    features: int
    side: int
    stride: int = 1
    dtype: Any = None
    kernel_init: init.Law = init.he_normal
    input_gain: float = RELU_GAIN
    epsilon: float = 1e-4

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.side, self.side, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        gain = self.param("gain", init.ones, (self.features,))
        mean, variance = (statistic(kernel, _FAN_IN, keepdims=True) for statistic in (jnp.mean, jnp.var))
        inverse = jax.lax.rsqrt(jnp.maximum(math.prod(shape[:-1]) * variance, self.epsilon))
        return convolved(x, self.input_gain * gain[_FEATURES] * inverse * (kernel - mean), self.stride, self.dtype)


def convolved(x: jax.Array, kernel: jax.Array, stride: int, dtype: Any) -> jax.Array:
    """Return the convolution of ``x`` by ``kernel``, both as ``dtype``, padded as by ``padded_conv``."""
    half = kernel.shape[0] // 2
    x, kernel = (jnp.asarray(array, dtype) for array in (x, kernel))
    return convolve(x, kernel, (stride, stride), ((half, half), (half, half)))


class Parametrization(NamedTuple):
    """Makers of a net's convolutions, given features, kernel and stride: for the stem and for the blocks."""

    stem: Callable[..., nn.Module]
    block: Callable[..., nn.Module]


PARAMETRIZATIONS = {
    "free": Parametrization(padded_conv, padded_conv),
    "dirac": Parametrization(padded_conv, DiracConv),
    # The images have not been activated.
    "standardized": Parametrization(functools.partial(StandardizedConv, input_gain=1.0), StandardizedConv),
}
