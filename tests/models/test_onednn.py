"""Convolutions by oneDNN against ``lax`` in float64 and in every transformation; and what happens without oneDNN."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np
import pytest

from resnet_jax import models
from resnet_jax.models.layers import conv, onednn
from tests.models.nets import images, needs_onednn, quick_jit

AXES = ("NHWC", "HWIO", "NHWC")
# Height and width, channels, features, size of the kernel, strides, padding.
CASES = {
    "3x3": ((8, 8), 4, 5, (3, 3), (1, 1), ((1, 1), (1, 1))),
    "strided": ((8, 8), 4, 6, (3, 3), (2, 2), ((1, 1), (1, 1))),
    "odd sides": ((9, 7), 3, 4, (3, 3), (2, 2), ((1, 1), (1, 1))),
    "strided valid": ((10, 9), 2, 3, (3, 3), (2, 2), ((0, 0), (0, 0))),
    "stem": ((17, 16), 3, 4, (7, 7), (2, 2), ((3, 3), (3, 3))),
    "row": ((6, 9), 4, 3, (1, 7), (1, 1), ((0, 0), (3, 3))),
    "unequal": ((7, 8), 2, 2, (2, 3), (1, 2), ((0, 1), (2, 0))),
    "even": ((8, 8), 3, 2, (4, 2), (3, 2), ((1, 2), (0, 1))),
    "one pixel": ((3, 3), 2, 3, (3, 3), (2, 2), ((1, 0), (0, 1))),
    "wide and tall": ((70, 64), 8, 3, (3, 3), (1, 1), ((1, 1), (1, 1))),
}

EVERY_COMMIT = {"strided", "unequal", "wide and tall"}


def arrays(case, batch, dtype=np.float32):
    """Return input and kernel of a case."""
    sides, channels, features, size, _, _ = CASES[case]
    random = np.random.default_rng(0)
    return random.normal(size=(batch, *sides, channels)).astype(dtype), random.normal(
        size=(*size, channels, features)
    ).astype(dtype)


def expected(case, x, kernel):
    """Return output, and gradients of the sum of its squares, in float64."""
    *_, strides, padding = CASES[case]
    with jax.enable_x64(True):
        exact = functools.partial(
            jax.lax.conv_general_dilated, window_strides=strides, padding=padding, dimension_numbers=AXES
        )
        x, kernel = jnp.float64(x), jnp.float64(kernel)
        gradients = jax.grad(lambda *args: jnp.sum(exact(*args) ** 2), argnums=(0, 1))(x, kernel)
        return jax.device_get((exact(x, kernel), *gradients))


def close(found, exact, tolerance):
    np.testing.assert_allclose(found, exact, rtol=0, atol=tolerance * np.abs(exact).max())


@needs_onednn
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] * (case not in EVERY_COMMIT)) for case in CASES]
)
def test_output_and_gradients_are_those_of_lax_in_float64(case):
    """The images of the last case take more memory than the gradient by the kernel sums at once."""
    x, kernel = arrays(case, batch=19 if case == "wide and tall" else 3)
    *_, strides, padding = CASES[case]

    def total(x, kernel):
        y = conv.convolve(x, kernel, strides, padding)
        return jnp.sum(y**2), y

    compute = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
    with onednn.computed_by("onednn"):
        assert onednn.TARGET in compute.lower(x, kernel).as_text()
        (_, y), gradients = compute(x, kernel)
    for found, exact in zip((y, *gradients), expected(case, x, kernel), strict=True):
        close(found, exact, 1e-5)


@needs_onednn
def test_bfloat16_is_rounded_once_and_summed_in_float32():
    if not onednn.computes(jnp.bfloat16):
        pytest.skip("this processor has no bfloat16")
    case = "wide and tall"
    x, kernel = (jnp.bfloat16(each) for each in arrays(case, 32))
    *_, strides, padding = CASES[case]
    with onednn.computed_by("onednn"):
        y = conv.convolve(x, kernel, strides, padding)
        by_kernel = jax.grad(lambda k: jnp.sum(conv.convolve(x, k, strides, padding), dtype=jnp.float32))(kernel)
    assert (y.dtype, by_kernel.dtype) == (jnp.bfloat16, jnp.bfloat16)
    exact, _, _ = expected(case, x, kernel)
    close(np.float64(y), exact, 2**-8)
    ones = np.ones(exact.shape)
    with jax.enable_x64(True):
        _, pull = jax.vjp(
            lambda k: jax.lax.conv_general_dilated(jnp.float64(x), k, strides, padding, dimension_numbers=AXES),
            jnp.float64(kernel),
        )
        [exact] = pull(jnp.array(ones))
    close(np.float64(by_kernel), np.float64(exact), 2**-7)


@needs_onednn
def test_settings_that_it_might_not_have_are_left_to_lax():
    x, kernel = arrays("3x3", 2)
    for strides, padding, kept in (
        ((4, 4), ((1, 1), (1, 1)), kernel),
        ((1, 1), ((3, 3), (1, 1)), kernel),
        ((1, 1), ((0, 0), (0, 0)), kernel[:1, :1]),
    ):
        with onednn.computed_by("onednn"):
            program = jax.jit(functools.partial(conv.convolve, strides=strides, padding=padding))
            assert onednn.TARGET not in program.lower(x, kept).as_text()
            found = program(x, kept)
        exact = jax.lax.conv_general_dilated(x, kept, strides, padding, dimension_numbers=AXES)
        np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)


@needs_onednn
def test_derivatives_of_second_order_in_both_modes_and_vmap_are_those_of_lax():
    x, kernel = arrays("strided", 4)
    direction = np.cos(kernel)

    def loss(kernel, x=x):
        return jnp.sum(jnp.tanh(conv.convolve(x, kernel, (2, 2), ((1, 1), (1, 1)))))

    def compute(kernel):
        gradient = jax.grad(loss)
        forward = jax.jvp(gradient, (kernel,), (direction,))[1]
        reverse = jax.grad(lambda k: jnp.vdot(gradient(k), direction))(kernel)
        each = jax.vmap(lambda k, x: jax.grad(loss)(k, x[None]), (None, 0))(kernel, x)
        return forward, reverse, each

    by_lax = jax.jit(compute)(kernel)
    with onednn.computed_by("onednn"):
        by_onednn = jax.jit(compute)(kernel)
    for found, exact in zip(by_onednn, by_lax, strict=True):
        close(found, exact, 1e-5)
    close(by_lax[2].sum(axis=0), jax.grad(loss)(kernel), 1e-5)


@needs_onednn
def test_a_net_has_the_same_loss_and_gradients_looped_and_over_devices():
    net = models.build({"depth": 14}, 10)
    variables = models.initial_variables(net, 0, (16, 16, 3))
    x = images((16, 16, 3), batch=8)

    def loss(params):
        logits, _ = net.apply(variables | {"params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - logits[:, 0])

    exact = quick_jit(jax.value_and_grad(loss))(variables["params"])
    with onednn.computed_by("onednn"):
        program = quick_jit(jax.value_and_grad(loss))
        assert program.lower(variables["params"]).as_text().count(onednn.TARGET) > 5
        found = program(variables["params"])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), found, exact)


@needs_onednn
def test_programs_for_other_platforms_do_not_contain_it():
    x, kernel = arrays("3x3", 2)
    program = jax.jit(jax.grad(lambda x, k: jnp.sum(conv.convolve(x, k, (1, 1), ((1, 1), (1, 1))) ** 2), (0, 1)))
    for platform in ("cuda", "tpu"):
        texts = {}
        for form in ("lax", "onednn"):
            with onednn.computed_by(form):
                texts[form] = program.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
        assert onednn.TARGET not in texts["onednn"]
        assert texts["onednn"].count("stablehlo.convolution") == texts["lax"].count("stablehlo.convolution") == 3


@pytest.fixture
def unknown():
    onednn.is_available.cache_clear()
    yield
    onednn.is_available.cache_clear()


def test_without_a_tried_version_lax_computes(unknown, monkeypatch):
    monkeypatch.setattr(jaxlib.version, "__version__", "99.0")
    assert not onednn.is_available()
    x, kernel = arrays("3x3", 2)
    with onednn.computed_by("onednn"):
        text = jax.jit(lambda *args: conv.convolve(*args, (1, 1), ((1, 1), (1, 1)))).lower(x, kernel).as_text()
    assert onednn.TARGET not in text


@needs_onednn
@pytest.mark.parametrize("fault", ["wrong", "refused"])
def test_what_computes_wrongly_or_not_at_all_is_not_used(unknown, monkeypatch, fault):
    right = onednn._call

    def call(*args, **settings):
        if fault == "refused":
            raise RuntimeError("no such target")
        return 1.001 * right(*args, **settings)

    monkeypatch.setattr(onednn, "_call", call)
    assert not onednn.is_available()


@needs_onednn
def test_it_is_tried_once_also_while_another_function_is_traced(unknown):
    x, kernel = arrays("3x3", 2)
    with onednn.computed_by("onednn"):
        text = jax.jit(lambda *args: conv.convolve(*args, (1, 1), ((1, 1), (1, 1)))).lower(x, kernel).as_text()
    assert text.count(onednn.TARGET) == 1
    assert onednn.is_available.cache_info().misses == 1


def test_the_type_decides_by_the_processor(monkeypatch, tmp_path):
    described = tmp_path / "cpuinfo"
    monkeypatch.setattr(onednn, "PROCESSOR", described)
    assert onednn.computes(jnp.float32)
    assert not onednn.computes(jnp.float64)
    assert not onednn.computes(jnp.bfloat16)
    described.write_text("flags : avx512f avx512_bf16\n")
    assert onednn.computes(jnp.bfloat16)
    described.write_text("flags : avx2\n")
    assert not onednn.computes(jnp.bfloat16)


def test_by_default_lax_computes_in_a_process_of_a_user():
    code = "from resnet_jax.models.layers import onednn; print(onednn.form.value)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "lax\n"
