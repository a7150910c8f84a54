"""Time of convolutions and their gradients on one core of a CPU, shape by shape and form by form.

    python -m benchmarks.convolutions

Forms: "lax", the form of runs where oneDNN cannot be used; "rearranged", the arrangement made for oneDNN with ``lax``'s
own convolutions; "winograd", F(2x2, 3x3) by matrix products (Lavin and Gray 2016, arXiv 1509.09308), forward only; and
"onednn".
"""

import functools
import os
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure
from resnet_jax.backend import keep_freed_memory
from resnet_jax.models.layers import conv, onednn
from resnet_jax.sweeps.local import available_cores

ROUNDS = 9
# Batch, side, channels, features, size of the kernel, stride: of residual nets on CIFAR and digits, wide, dense nets.
SHAPES = [
    (128, 32, 3, 16, 3, 1),
    (128, 32, 16, 16, 3, 1),
    (128, 32, 16, 32, 3, 2),
    (128, 16, 32, 32, 3, 1),
    (128, 16, 32, 64, 3, 2),
    (128, 8, 64, 64, 3, 1),
    (128, 8, 16, 16, 3, 1),
    (128, 4, 32, 32, 3, 1),
    (128, 2, 64, 64, 3, 1),
    (32, 16, 128, 128, 3, 1),
    (32, 32, 100, 12, 3, 1),
    (4, 56, 64, 64, 3, 1),
]
# Of F(2x2, 3x3): transforms of the input, the kernel and the output.
INPUT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float32)
KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], np.float32)


def winograd(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the convolution with a 3x3 kernel, stride 1, padded by 1; height and width are even."""
    batch, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    tiles = jnp.stack(
        [jnp.stack([padded[:, i : i + height : 2, j : j + width : 2] for j in range(4)]) for i in range(4)]
    )
    inputs = jnp.einsum("ai,bj,ijnhwc->abnhwc", INPUT, INPUT, tiles).reshape(16, -1, channels)
    kernels = jnp.einsum("ai,bj,ijcf->abcf", KERNEL, KERNEL, kernel).reshape(16, channels, -1)
    products = jnp.matmul(inputs, kernels).reshape(4, 4, batch, height // 2, width // 2, -1)
    outputs = jnp.einsum("ai,bj,ijnhwf->nhawbf", OUTPUT, OUTPUT, products)
    return outputs.reshape(batch, height, width, -1)


def compare(batch: int, side: int, channels: int, features: int, size: int, stride: int) -> dict[str, Any]:
    """Return milliseconds of the forward pass and the gradients by input and kernel, by form."""
    random = np.random.default_rng(0)
    strides, padding = (stride, stride), ((size // 2, size // 2),) * 2
    x = jnp.asarray(random.normal(size=(batch, side, side, channels)), jnp.float32)
    kernel = jnp.asarray(random.normal(size=(size, size, channels, features)), jnp.float32)
    output = conv.convolve(x, kernel, strides, padding)
    gradient = jnp.asarray(random.normal(size=output.shape), jnp.float32)

    def by(argument: int) -> Callable[..., jax.Array]:
        def compute(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
            _, pull = jax.vjp(lambda *both: conv.convolve(*both, strides, padding), x, kernel)
            return pull(gradient)[argument]

        return compute

    passes: dict[str, Callable[..., jax.Array]] = {
        "forward": lambda x, kernel, gradient: conv.convolve(x, kernel, strides, padding),
        "by input": by(0),
        "by kernel": by(1),
    }
    found: dict[str, Any] = {
        "images": f"{batch}x{side}x{side}x{channels}",
        "kernel": f"{size}x{size}x{features}/{stride}",
    }
    for name, compute in passes.items():
        forms = {"lax": jitted(compute, "lax"), "onednn": jitted(compute, "onednn")}
        with mock.patch.object(onednn, "convolve", onednn.by_lax):
            forms["rearranged"] = jitted(compute, "onednn")
            forms["rearranged"](x, kernel, gradient)
        if name == "forward" and (size, stride) == (3, 1) and channels > 3:
            forms["winograd"] = jax.jit(lambda x, kernel, gradient: winograd(x, kernel))
        exact = forms["lax"](x, kernel, gradient)
        for form in forms.values():
            found_here = form(x, kernel, gradient)
            np.testing.assert_allclose(found_here, exact, rtol=0, atol=1e-4 * float(jnp.abs(exact).max()))
        calls = {
            each: functools.partial(lambda form: jax.block_until_ready(form(x, kernel, gradient)), form)
            for each, form in forms.items()
        }
        found[name] = {each: round(1e3 * value, 2) for each, value in measure.in_turn(calls, ROUNDS).items()}
    return found


def jitted(compute: Callable[..., jax.Array], form: str) -> Callable[..., jax.Array]:
    """Return ``compute`` compiled with convolutions by ``form``."""
    program = jax.jit(lambda *arrays: compute(*arrays))

    def call(*arrays: jax.Array) -> jax.Array:
        with onednn.computed_by(form):
            return program(*arrays)

    return call


def main() -> None:
    """Measure on one core, and record."""
    os.sched_setaffinity(0, available_cores()[:1])
    keep_freed_memory()
    measure.save("convolutions", {"shapes": [compare(*shape) for shape in SHAPES]})


if __name__ == "__main__":
    main()
