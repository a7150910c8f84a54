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

from resnet_jax.models.layers import init, onednn

# Height and width.
Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

_AXES = ("NHWC", "HWIO", "NHWC")
# Channels up to which, on CPUs, a product with the identity costs less than it saves.
_FEW_CHANNELS = 64
# Bytes of images above which oneDNN sums the gradient by the kernel over some of them at a time, which stay in caches.
_LARGE = 2**20
_IMAGES = 8


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
    if _is_pointwise(kernel, padding):
        on_cpu = functools.partial(_convolve_by_product, strides=strides, padding=padding)
    elif _is_by_onednn(x, kernel, strides, padding):
        on_cpu = functools.partial(onednn.convolve, strides=strides, padding=padding)
    else:
        return convolution(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=convolution)


# Gradients: ``_gradients_on_cpu`` on CPUs, JAX's elsewhere.
_convolve = jax.custom_vjp(_convolution, nondiff_argnums=(2, 3))


def _is_pointwise(kernel: jax.Array, padding: Padding) -> bool:
    """Return whether the convolution is a matrix product at each place; XLA:CPU computes it faster as such."""
    return kernel.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0))


def _is_by_onednn(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> bool:
    """Return whether oneDNN computes the convolution and its gradients on CPUs; of odd settings it has only some."""
    sides = zip(kernel.shape[:2], strides, padding, strict=True)
    return onednn.is_used(x) and all(
        stride <= size and 0 <= min(pads) <= max(pads) < size for size, stride, pads in sides
    )


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
    if _is_by_onednn(x, kernel, strides, padding):
        by_x = _gradient_by_x(kernel, gradient, x.shape, strides, padding)
        return by_x, _gradient_by_kernel(x, gradient, (kernel.shape[0], kernel.shape[1]), strides, padding)
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


def _gradient_by_x(
    kernel: jax.Array, gradient: jax.Array, x_shape: tuple[int, ...], strides: Pair, padding: Padding
) -> jax.Array:
    """Return the gradient by the input, of shape ``x_shape``, given the ``gradient`` by the output.

    The pixels of the input that lie apart by the stride meet the same taps of the kernel, so that each such grid is a
    convolution of ``gradient`` with these taps.
    """
    sides = list(zip(x_shape[1:3], gradient.shape[1:3], strides, padding, strict=True))
    lengths = [(length - 1 + before) // stride + 1 for length, _, stride, (before, _) in sides]
    gradient = gradient[:, : lengths[0], : lengths[1]]

    def grid(row: int, column: int) -> jax.Array:
        taps = kernel[row :: strides[0], column :: strides[1]][::-1, ::-1].swapaxes(2, 3)
        pads = [(size - 1, n - k) for size, n, k in zip(taps.shape[:2], lengths, gradient.shape[1:3], strict=True)]
        return onednn.convolve(gradient, taps, (1, 1), (pads[0], pads[1]))

    rows = [jnp.stack([grid(row, column) for column in range(strides[1])], axis=3) for row in range(strides[0])]
    whole = jnp.stack(rows, axis=2).reshape(x_shape[0], lengths[0] * strides[0], lengths[1] * strides[1], -1)
    (top, _), (left, _) = padding
    return whole[:, top : top + x_shape[1], left : left + x_shape[2]]


def _gradient_by_kernel(x: jax.Array, gradient: jax.Array, size: Pair, strides: Pair, padding: Padding) -> jax.Array:
    """Return the gradient by the kernel of ``size``, given the ``gradient`` by the output.

    It is the convolution of ``x`` with ``gradient``. The images are the channels, and width and channels of ``x`` are
    one side, so that the result lies in memory as the kernel does.
    """
    channels = x.shape[-1]
    pads = [
        (before, taps - 1 + (outputs - 1) * stride + 1 - length - before)
        for length, outputs, taps, stride, (before, _) in zip(
            x.shape[1:3], gradient.shape[1:3], size, strides, padding, strict=True
        )
    ]
    x = x[:, : x.shape[1] + min(0, pads[0][1]), : x.shape[2] + min(0, pads[1][1])]  # The rest meets no tap.
    (top, bottom), (left, right) = [(before, max(0, after)) for before, after in pads]

    def of(x: jax.Array, gradient: jax.Array) -> jax.Array:
        images = x.reshape(*x.shape[:2], -1).transpose(1, 2, 0)[None]
        taps = gradient.transpose(1, 2, 0, 3)
        pads = (top, bottom), (left * channels, right * channels)
        return onednn.convolve(images, taps, (1, 1), pads, (strides[0], strides[1] * channels))[0]

    parts = x.shape[0] // _IMAGES if x.nbytes > _LARGE else 0
    first = [each[: parts * _IMAGES].reshape(parts, _IMAGES, *each.shape[1:]) for each in (x, gradient)]
    rest = [each[parts * _IMAGES :] for each in (x, gradient)]
    sums = [jax.lax.map(lambda part: of(*part), first).sum(axis=0, dtype=jnp.float32)] if parts else []
    sums += [of(*rest).astype(jnp.float32)] if rest[0].size else []
    return sum(sums[1:], sums[0]).reshape(*size, channels, -1).astype(x.dtype)


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
