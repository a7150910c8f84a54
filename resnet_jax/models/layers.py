"""The layers that nets are made of: convolution, and batch norm with what follows it.

Each is the layer of the papers; what is particular is how its gradient is computed. XLA:CPU and accelerators want
different forms of the same sums.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# He et al. 2015, "Delving deep into rectifiers", equation 10: Gaussian of variance 2 / fan-in, not truncated.
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **settings: Any,
) -> jax.Array:
    """Convolve as ``lax.conv_general_dilated`` does, on a CPU in the form that XLA is quick at.

    XLA:CPU takes eight times as long for a convolution as for the matrix product on 2x2 maps, the last stage of nets
    on 8x8 images; and the gradients that JAX derives are 40 times slower inside a loop than ``_convolve_on_cpu``'s.

    Args:
      x: ``[batch, height, width, channels]``.
      kernel: ``[kernel, kernel, channels, features]``.
      strides: of height and width, equal.
      padding: rows and columns added before and behind, all equal.
      **settings: the other arguments that Flax gives, for ``lax.conv_general_dilated``.
    """
    if min(x.shape[1:3]) < kernel.shape[0]:
        return _convolve_by_product(x, kernel, strides[0], padding[0][0])
    if jax.default_backend() == "cpu":
        return _convolve_on_cpu(x, kernel, strides[0], padding[0][0])
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **settings)


def _convolve_by_product(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """Convolve by one product of all windows of ``x`` with ``kernel``."""
    size = kernel.shape[0]
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = ((length - size) // stride + 1 for length in x.shape[1:3])
    shifted = [
        x[:, i : i + height * stride : stride, j : j + width * stride : stride]
        for i in range(size)
        for j in range(size)
    ]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


_AXES = ("NHWC", "HWIO", "NHWC")
_CHANNELS = (None, None, None)  # Makes [channels] an array that goes with [batch, height, width, channels].


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve_on_cpu(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """Convolve, with gradients whose dimensions are in the order of the forward pass.

    XLA:CPU has fast code for this order alone, and brings the gradients that JAX derives into it only outside of
    loops (jax issue 12868).
    """
    pads = ((padding, padding), (padding, padding))
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=_AXES)


def _convolve_on_cpu_forward(
    x: jax.Array, kernel: jax.Array, stride: int, padding: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve_on_cpu(x, kernel, stride, padding), (x, kernel)


def _convolve_on_cpu_backward(
    stride: int, padding: int, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the gradients by ``x``, of the output's gradient with the mirrored kernel, and by ``kernel``."""
    x, kernel = saved
    size = kernel.shape[0]
    # What the output's gradient, spread out by the stride, must be padded with to give back the size of x.
    before = size - 1 - padding
    after = [x.shape[i] - (gradient.shape[i] - 1) * stride - 1 + padding for i in (1, 2)]
    by_x = jax.lax.conv_general_dilated(
        gradient,
        kernel[::-1, ::-1].swapaxes(2, 3),
        (1, 1),
        [(before, each) for each in after],
        lhs_dilation=(stride, stride),
        dimension_numbers=_AXES,
    )
    # Channels in the place of the batch and the batch in that of the channels: every product is summed over images.
    behind = [(gradient.shape[i] - 1) * stride + size - x.shape[i] - padding for i in (1, 2)]
    by_kernel = jax.lax.conv_general_dilated(
        _unfused(x).transpose(3, 1, 2, 0),
        _unfused(gradient).transpose(1, 2, 0, 3),
        (1, 1),
        [(padding, each) for each in behind],
        rhs_dilation=(stride, stride),
        dimension_numbers=_AXES,
    )
    return by_x, by_kernel.transpose(1, 2, 0, 3)


def _unfused(x: jax.Array) -> jax.Array:
    """Return ``x`` as a product with the identity.

    XLA:CPU fuses a transpose with all that leads to it and computes that anew in the order of the transpose, four
    times as slowly; it fuses nothing with a product.
    """
    return x @ jnp.eye(x.shape[-1], dtype=x.dtype)


_convolve_on_cpu.defvjp(_convolve_on_cpu_forward, _convolve_on_cpu_backward)


def square_conv(features: int, kernel: int, stride: int = 1, **settings: Any) -> nn.Conv:
    """Return a ``kernel`` x ``kernel`` convolution without bias, padded by ``kernel // 2`` on every side.

    The padding is explicit because "SAME" pads a strided convolution on one side only: another net than the paper's
    and PyTorch's.
    """
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=stride,
        padding=kernel // 2,
        use_bias=False,
        kernel_init=he_normal,
        conv_general_dilated=convolve,
        **settings,
    )


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015), the shortcut's addition and ReLU, as one operation.

    Parameters "scale" and "bias" and statistics "mean" and "var" are those of ``nn.BatchNorm``, all float32. Together
    with what follows it the backward pass needs the layer's input alone, not its output.

    Attributes:
      train: whether to normalise by the batch, moving the running statistics towards it, or by these.
      relu: whether ReLU comes last.
      axis_name: device axis over which the batch's statistics are taken; None keeps them to each device.
      momentum: share of the old running statistics in the new.
      epsilon: added to the variance.
    """

    train: bool
    relu: bool = True
    axis_name: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, shortcut: jax.Array | None = None) -> jax.Array:
        """Return ``relu(normalised x + shortcut)``; all are ``[batch, height, width, channels]``, of one type."""
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        if not self.train:
            factor = scale * jax.lax.rsqrt(running_var.value + self.epsilon)
            return _affine(x, factor, bias - running_mean.value * factor, shortcut, self.relu)

        axis_name = None if self.is_initializing() else self.axis_name
        y, mean, var = normalise_by_batch(x, scale, bias, shortcut, self.relu, axis_name, self.epsilon)
        if not self.is_initializing():
            for running, batch in ((running_mean, mean), (running_var, var)):
                running.value = self.momentum * running.value + (1 - self.momentum) * batch
        return y


def _affine(x: jax.Array, factor: jax.Array, offset: jax.Array, shortcut: jax.Array | None, relu: bool) -> jax.Array:
    """Return ``relu(factor * x + offset + shortcut)``, computed in float32, of the type of ``x``."""
    y = x * factor[_CHANNELS] + offset[_CHANNELS]
    if shortcut is not None:
        y = y + shortcut
    return (nn.relu(y) if relu else y).astype(x.dtype)


def _channel_sums(x: jax.Array) -> jax.Array:
    """Return the sums over all but the last axis."""
    if jax.default_backend() == "cpu":  # XLA:CPU sums over images five times as fast by a matrix product.
        rows = x.reshape(x.shape[0], -1)
        x = (jnp.ones((1, x.shape[0]), x.dtype) @ rows).reshape(-1, x.shape[-1])
    return jnp.sum(x, axis=tuple(range(x.ndim - 1)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def normalise_by_batch(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    shortcut: jax.Array | None,
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
      shortcut: as ``x``, or None.
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
    shortcut: jax.Array | None,
    relu: bool,
    axis_name: str | None,
    epsilon: float,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Any]:
    count = x.size // x.shape[-1]
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean, square = _mean_over(axis_name, _channel_sums(wide) / count, _channel_sums(wide * wide) / count)
    var = jnp.maximum(square - mean * mean, 0)
    inverse = jax.lax.rsqrt(var + epsilon)
    factor = scale * inverse
    offset = bias - mean * factor
    y = _affine(x, factor, offset, shortcut, relu)
    return (y, mean, var), (x, shortcut, mean, inverse, factor, offset)


def _normalise_backward(
    relu: bool, axis_name: str | None, epsilon: float, saved: Any, gradients: tuple[jax.Array, jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    x, shortcut, mean, inverse, factor, offset = saved
    gradient = gradients[0]
    if relu:
        y = _affine(x, factor, offset, shortcut, relu=False)
        gradient = jnp.where(y > 0, gradient, 0)
    wide = gradient.astype(jnp.promote_types(gradient.dtype, jnp.float32))
    normalised = (x - mean[_CHANNELS]) * inverse[_CHANNELS]
    by_scale, by_bias = _channel_sums(wide * normalised), _channel_sums(wide)
    # Ioffe and Szegedy 2015, section 3, with the mean and the variance as functions of x.
    count = x.size // x.shape[-1]
    mean_by_scale, mean_by_bias = _mean_over(axis_name, by_scale / count, by_bias / count)
    by_x = factor[_CHANNELS] * (wide - mean_by_bias[_CHANNELS] - normalised * mean_by_scale[_CHANNELS])
    return by_x.astype(x.dtype), by_scale, by_bias, None if shortcut is None else gradient


normalise_by_batch.defvjp(_normalise_forward, _normalise_backward)
