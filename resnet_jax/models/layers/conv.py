"""Convolution, with gradients in the fastest form for the platform.

XLA:CPU and accelerators want different forms of the same sums. Which one is compiled follows the platform the program
is lowered for, not the machine it is traced on.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resnet_jax.models.layers import init

# Height and width.
Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

_AXES = ("NHWC", "HWIO", "NHWC")
# Channels up to which, on CPUs, a product with the identity costs less than it saves.
_FEW_CHANNELS = 64


def padded_conv(
    features: int,
    kernel: int | Pair,
    stride: int = 1,
    valid: bool = False,
    kernel_init: init.Law = init.he_normal,
    **settings: Any,
) -> nn.Conv:
    """Return a convolution without bias, padded by half its ``kernel`` on every side or, if ``valid``, not at all.

    The padding is explicit because "SAME" pads a strided convolution on one side only: another net than the paper's
    and PyTorch's.
    """
    size = (kernel, kernel) if isinstance(kernel, int) else kernel
    return nn.Conv(
        features,
        size,
        strides=stride,
        padding="VALID" if valid else [(length // 2, length // 2) for length in size],
        use_bias=False,
        kernel_init=kernel_init,
        conv_general_dilated=convolve,
        **settings,
    )


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[Pair],
    *,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    feature_group_count: int = 1,
    **settings: Any,
) -> jax.Array:
    """Convolve as ``lax.conv_general_dilated`` does, with faster gradients on CPUs.

    XLA:CPU takes eight times as long for a convolution as for the matrix product on 2x2 maps, the last stage of nets
    on 8x8 images; and the gradients that JAX derives are 40 times slower inside a loop than those written here.
    Dilated and grouped convolutions are left to ``lax``.

    Args:
      x: ``[batch, height, width, channels]``.
      kernel: ``[height, width, channels / groups, features]``.
      strides: of height and width.
      padding: rows and columns added before and after, or "SAME" or "VALID".
      lhs_dilation: spacing of the pixels of ``x``.
      rhs_dilation: spacing of the taps of ``kernel``.
      feature_group_count: number of groups of channels.
      **settings: the other arguments of ``lax.conv_general_dilated``.
    """
    dilations = itertools.chain(lhs_dilation or (), rhs_dilation or ())
    if feature_group_count != 1 or any(dilation != 1 for dilation in dilations) or settings.get("precision"):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            feature_group_count=feature_group_count,
            **settings,
        )
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    (top, bottom), (left, right) = padding
    pads, pair = ((top, bottom), (left, right)), (strides[0], strides[1])
    if x.shape[1] < kernel.shape[0] or x.shape[2] < kernel.shape[1]:
        return _convolve_by_product(x, kernel, pair, pads)
    return _convolve(x, kernel, pair, pads)


def _convolve_by_product(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    """Convolve by one product of all windows of ``x`` with ``kernel``."""
    rows, columns = kernel.shape[:2]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = (
        max(0, (length - size) // stride + 1)
        for length, size, stride in zip(x.shape[1:3], kernel.shape[:2], strides, strict=True)
    )
    if not height or not width:  # The net then says what sizes it needs.
        return jnp.zeros((x.shape[0], height, width, kernel.shape[-1]), x.dtype)
    # Indices would be gathers where the batch size is free (evaluation/stablehlo.py).
    spans = ((height - 1) * strides[0] + 1, (width - 1) * strides[1] + 1)
    shifted = [
        jax.lax.slice(x, (0, i, j, 0), (x.shape[0], i + spans[0], j + spans[1], x.shape[3]), (1, *strides, 1))
        for i in range(rows)
        for j in range(columns)
    ]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def _convolution(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    """Convolve in the form that the platform is quick at."""
    convolution = functools.partial(
        jax.lax.conv_general_dilated, window_strides=strides, padding=padding, dimension_numbers=_AXES
    )
    if not _is_pointwise(kernel, padding):
        return convolution(x, kernel)
    product = functools.partial(_convolve_by_product, strides=strides, padding=padding)
    return jax.lax.platform_dependent(x, kernel, cpu=product, default=convolution)


# Gradients: ``_gradients_on_cpu`` on CPUs, JAX's elsewhere.
_convolve = jax.custom_vjp(_convolution, nondiff_argnums=(2, 3))


def _is_pointwise(kernel: jax.Array, padding: Padding) -> bool:
    """Return whether the convolution is a matrix product at each place; XLA:CPU computes it faster as such."""
    return kernel.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0))


def _convolve_forward(
    x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    # Not _convolve, by which JAX 0.10 mixes up what it saves if a loop over 1x1 convolutions is differentiated twice.
    return _convolution(x, kernel, strides, padding), (x, kernel)


def _convolve_backward(
    strides: Pair, padding: Padding, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return jax.lax.platform_dependent(
        *saved,
        gradient,
        cpu=functools.partial(_gradients_on_cpu, strides=strides, padding=padding),
        default=functools.partial(_gradients_of_jax, strides=strides, padding=padding),
    )


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _gradients_of_jax(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, strides: Pair, padding: Padding
) -> tuple[jax.Array, jax.Array]:
    """Return the gradients by ``x`` and ``kernel`` as JAX derives them."""
    convolution = functools.partial(
        jax.lax.conv_general_dilated, window_strides=strides, padding=padding, dimension_numbers=_AXES
    )
    return jax.vjp(convolution, x, kernel)[1](gradient)


def _gradients_on_cpu(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, strides: Pair, padding: Padding
) -> tuple[jax.Array, jax.Array]:
    """Return the same, with dimensions in the order of the forward pass.

    XLA:CPU has fast code only for this order, and rearranges JAX's own gradients into it only outside of loops (jax
    issue 12868).
    """
    if _is_pointwise(kernel, padding):
        return _gradients_by_product(x, kernel, gradient, strides)
    sides = list(zip(x.shape[1:3], gradient.shape[1:3], kernel.shape[:2], strides, padding, strict=True))
    # By x: the output's gradient, spread out by the stride and padded to give back the size of x, is convolved with the
    # mirrored kernel.
    by_x = jax.lax.conv_general_dilated(
        gradient,
        kernel[::-1, ::-1].swapaxes(2, 3),
        (1, 1),
        [
            (size - 1 - before, length - (outputs - 1) * stride - 1 + before)
            for length, outputs, size, stride, (before, _) in sides
        ],
        lhs_dilation=strides,
        dimension_numbers=_AXES,
    )
    # By kernel: batch and channels change places, so that every product is summed over images.
    by_kernel = jax.lax.conv_general_dilated(
        _unfused(x).transpose(3, 1, 2, 0),
        _unfused(gradient).transpose(1, 2, 0, 3),
        (1, 1),
        [
            (before, (outputs - 1) * stride + size - length - before)
            for length, outputs, size, stride, (before, _) in sides
        ],
        rhs_dilation=strides,
        dimension_numbers=_AXES,
    )
    return by_x, by_kernel.transpose(1, 2, 0, 3)


def _gradients_by_product(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, strides: Pair
) -> tuple[jax.Array, jax.Array]:
    """Return the gradients of a 1x1 convolution without padding."""
    seen = x[:, :: strides[0], :: strides[1]]
    by_kernel = seen.reshape(-1, seen.shape[-1]).T @ gradient.reshape(-1, gradient.shape[-1])
    by_x = gradient @ kernel[0, 0].T
    # What the stride passes over gets no gradient.
    spread = [
        (0, length - (outputs - 1) * stride - 1, stride - 1)
        for length, outputs, stride in zip(x.shape[1:3], gradient.shape[1:3], strides, strict=True)
    ]
    by_x = jax.lax.pad(by_x, jnp.zeros((), by_x.dtype), [(0, 0, 0), *spread, (0, 0, 0)])
    return by_x, by_kernel[None, None]


def _unfused(x: jax.Array) -> jax.Array:
    """Return ``x``, of few channels as a product with the identity.

    XLA:CPU fuses a transpose with everything that leads to it and recomputes that in the order of the transpose, four
    times as slowly; it fuses nothing with a product.
    """
    return x if x.shape[-1] > _FEW_CHANNELS else x @ jnp.eye(x.shape[-1], dtype=x.dtype)
