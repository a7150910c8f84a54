"""Convolutions on CPUs by oneDNN, which is part of jaxlib: the sums of ``lax`` in half to three quarters of the time.

XLA has no public way to ask for them. Its custom call aborts the process where it does not understand its settings, so
it is made only with versions of jaxlib it was tried with, and only after it has computed one convolution rightly in
this process. Elsewhere, and under ``vmap``, ``lax`` computes the convolutions: more slowly, and with other rounding.
JAX cannot keep such programs compiled.
"""

import contextlib
import functools
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np
from absl import logging
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

TARGET = "__onednn$convolution"
# Versions of jaxlib with which tests/models/test_onednn.py passes.
VERSIONS = ("0.10.2",)
# Without these instructions oneDNN may have no convolutions of bfloat16, and aborts.
_BFLOAT16 = ("avx512_bf16", "amx_bf16")
PROCESSOR = pathlib.Path("/proc/cpuinfo")

Pair = tuple[int, int]  # Height and width.
Padding = tuple[Pair, Pair]

# What computes the convolutions of CPUs where a program is traced: "lax" or "onednn".
form = jax.make_user_context("lax")
# Setting of JAX: from how many seconds of compiling on programs are kept.
_KEPT_FROM = "jax_persistent_cache_min_compile_time_secs"


@contextlib.contextmanager
def computed_by(name: str) -> Iterator[None]:
    """Let ``name``, "lax" or "onednn", compute the convolutions of programs that are traced in this context."""
    seconds = getattr(jax.config, _KEPT_FROM)
    jax.config.update(_KEPT_FROM, float("inf") if name == "onednn" else seconds)
    try:
        with form(name):
            yield
    finally:
        jax.config.update(_KEPT_FROM, seconds)


def is_used(x: jax.Array) -> bool:
    """Return whether a convolution of ``x`` that is traced here is computed by oneDNN on CPUs."""
    return form.value == "onednn" and computes(x.dtype) and is_available()


def computes(dtype: Any) -> bool:
    """Return whether oneDNN has convolutions of ``dtype`` on this processor."""
    if dtype != jnp.bfloat16:
        return dtype == jnp.float32
    return PROCESSOR.exists() and any(each in PROCESSOR.read_text() for each in _BFLOAT16)


@functools.cache
def is_available() -> bool:
    """Return whether this process can use oneDNN; the first call tries, and logs why not."""
    settings: dict[str, Any] = {"strides": (2, 1), "padding": ((1, 0), (2, 1)), "dilation": (1, 2)}
    x = np.sin(np.arange(2 * 6 * 5 * 3, dtype=np.float32)).reshape(2, 6, 5, 3)
    kernel = np.cos(np.arange(3 * 2 * 3 * 4, dtype=np.float32)).reshape(3, 2, 3, 4)
    try:
        if jaxlib.version.__version__ not in VERSIONS:
            raise RuntimeError(f"it was not tried with jaxlib {jaxlib.version.__version__}")
        cpu = jax.local_devices(backend="cpu")[0]
        with computed_by("onednn"), jax.ensure_compile_time_eval(), jax.default_device(cpu):
            found, expected = (compute(jnp.array(x), jnp.array(kernel), **settings) for compute in (_call, by_lax))
            np.testing.assert_allclose(found, expected, atol=1e-4)
        return True
    except (RuntimeError, ValueError, AssertionError) as error:
        logging.warning("lax computes the convolutions, more slowly than oneDNN, which is not used: %s", error)
        return False


def convolve(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, dilation: Pair = (1, 1)) -> jax.Array:
    """Return the convolution of ``[batch, height, width, channels]`` with ``[height, width, channels, features]``."""
    # Within shard_map the call takes only arrays that differ between the same devices.
    varying = [jax.typeof(each).manual_axis_type.varying for each in (x, kernel)]
    x, kernel = (
        jax.lax.pcast(each, tuple((varying[0] | varying[1]) - own), to="varying")
        for each, own in zip((x, kernel), varying, strict=True)
    )
    return _convolution.bind(x, kernel, strides=strides, padding=padding, dilation=dilation)


# A primitive, because custom_jvp is lost where a loop is differentiated twice.
_convolution = Primitive("onednn_convolution")


@_convolution.def_abstract_eval
def _result(x: Any, kernel: Any, strides: Pair, padding: Padding, dilation: Pair) -> Any:
    sides = zip(x.shape[1:3], kernel.shape[:2], strides, padding, dilation, strict=True)
    outputs = [
        (length + before + after - (size - 1) * spacing - 1) // stride + 1
        for length, size, stride, (before, after), spacing in sides
    ]
    return x.update(shape=(x.shape[0], *outputs, kernel.shape[-1]))


def _derivative(primals: Any, tangents: Any, **settings: Any) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (by_x, by_kernel) = primals, map(ad.instantiate_zeros, tangents)
    return convolve(x, kernel, **settings), by_lax(by_x, kernel, **settings) + by_lax(x, by_kernel, **settings)


def _batched(arrays: Any, axes: Any, **settings: Any) -> tuple[jax.Array, int]:
    return jax.vmap(functools.partial(by_lax, **settings), axes)(*arrays), 0


def by_lax(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, dilation: Pair = (1, 1)) -> jax.Array:
    """Do as ``convolve``, by ``lax`` on every platform."""
    axes = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=axes)


def _call(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, dilation: Pair) -> jax.Array:
    """Return the same by oneDNN. XLA reads the settings as a message OneDnnConvolutionConfig in JSON."""
    images = {"dims": "4", "data": {"batch_dim": "0", "feature_dim": "3", "spatial_dims": ["1", "2"]}}
    taps = {"dims": "4", "filter": {"input_feature_dim": "2", "output_feature_dim": "3", "spatial_dims": ["0", "1"]}}
    before, after = zip(*padding, strict=True)
    window = {"pad_left": before, "pad_right": after, "strides": strides, "window_dilations": dilation}
    settings = {
        "dims": "4",
        "feature_groups": "1",
        "input": images,
        "output": images,
        "kernel": taps,
        "window": {name: [str(each) for each in pair] for name, pair in window.items()},
    }
    return jax.ffi.ffi_call(
        TARGET,
        _result(jax.typeof(x), kernel, strides, padding, dilation),
        custom_call_api_version=1,
        legacy_backend_config=json.dumps({"onednn_conv_config": settings}),
    )(x, kernel)


_convolution.def_impl(lambda *arrays, **settings: jax.jit(functools.partial(_convolution.bind, **settings))(*arrays))
ad.primitive_jvps[_convolution] = _derivative
batching.primitive_batchers[_convolution] = _batched
mlir.register_lowering(_convolution, mlir.lower_fun(by_lax, multiple_results=False))
mlir.register_lowering(_convolution, mlir.lower_fun(_call, multiple_results=False), platform="cpu")
