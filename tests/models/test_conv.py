"""Convolution, against ``lax`` in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models.layers.conv import convolve, padded_conv
from tests.models.nets import assert_close, quick_jit

AXES = ("NHWC", "HWIO", "NHWC")
# Sizes of the kernel and strides, and sizes of the images.
SQUARE = [
    ((kernel, kernel), (stride, stride), [(size, size) for size in (1, 2, 5, 8)])
    for kernel, stride in ((1, 1), (1, 2), (3, 1), (3, 2), (5, 1), (5, 2), (7, 2))
]
OBLONG = [
    (kernel, strides, [size])
    for size, strides in (((9, 8), (1, 1)), ((8, 9), (2, 2)), ((3, 6), (1, 2)))
    for kernel in ((1, 7), (7, 1), (3, 5))
]


def arrays(size, kernel, channels=3, groups=1):
    random = np.random.default_rng(1)
    return random.normal(size=(2, *size, channels)), random.normal(size=(*kernel, channels // groups, 4))


def assert_equal_to_lax(*cases):
    """Compare values and gradients in float64; a case is image, kernel, strides, padding and settings."""

    def results(function):
        def total(arrays):
            found = [
                function(*pair, strides, padding, dimension_numbers=AXES, **settings)
                for pair, (_, _, strides, padding, settings) in zip(arrays, cases, strict=True)
            ]
            return sum(jnp.sum(jnp.sin(y)) for y in found), found

        # Compiled together: each program costs more than a convolution of it.
        return quick_jit(jax.value_and_grad(total, has_aux=True))([case[:2] for case in cases])

    with jax.enable_x64(True):
        ours, theirs = results(convolve), results(jax.lax.conv_general_dilated)
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {jnp.dtype("float64")}
    assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def half_padded(kernel, strides, sizes):
    """Return cases padded by half the kernel."""
    padding = [(length // 2, length // 2) for length in kernel]
    return [(*arrays(size, kernel), strides, padding, {}) for size in sizes]


@pytest.mark.parametrize(("kernel", "strides", "sizes"), SQUARE + OBLONG)
def test_values_and_gradients_equal_those_of_lax(kernel, strides, sizes):
    assert_equal_to_lax(*half_padded(kernel, strides, sizes))


def test_so_do_those_in_the_form_for_other_platforms(monkeypatch):
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, default, **forms: default(*args))
    square, oblong = half_padded((3, 3), (2, 2), [(8, 8)]), half_padded((1, 7), (1, 1), [(9, 8)])
    assert_equal_to_lax(*square, *oblong)


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_loop_can_be_differentiated_twice(kernel):
    """The product of the second derivative with the kernels themselves, against plain convolutions without a loop."""

    def product(convolution, is_looped):
        def loss(kernels):
            def step(x, kernel):
                return jnp.tanh(convolution(x, kernel, (1, 1), padding, dimension_numbers=AXES)), None

            if is_looped:
                return jnp.sum(jax.lax.scan(step, images, kernels)[0] ** 2)
            return jnp.sum(functools.reduce(lambda x, kernel: step(x, kernel)[0], kernels, images) ** 2)

        return quick_jit(jax.grad(lambda kernels: jnp.vdot(jax.grad(loss)(kernels), kernels)))(kernels)

    random, padding = np.random.default_rng(0), [(kernel // 2, kernel // 2)] * 2
    with jax.enable_x64(True):
        images, kernels = random.normal(size=(2, 4, 4, 3)), jnp.asarray(random.normal(size=(3, kernel, kernel, 3, 3)))
        ours, plain = product(convolve, is_looped=True), product(jax.lax.conv_general_dilated, is_looped=False)
        np.testing.assert_allclose(ours, plain, rtol=1e-9, atol=1e-11)


def test_any_padding_will_do():
    x, kernel = arrays((8, 7), (3, 3))
    paddings = ("SAME", "VALID", [(0, 1), (2, 0)])
    assert_equal_to_lax(*((x, kernel, strides, each, {}) for strides in ((1, 1), (2, 1)) for each in paddings))


@pytest.mark.parametrize(
    "settings",
    [
        {"rhs_dilation": (2, 2)},
        {"lhs_dilation": (2, 2)},
        {"rhs_dilation": (1, 3)},
        {"feature_group_count": 2},
        {"feature_group_count": 4, "rhs_dilation": (2, 1)},
    ],
    ids=str,
)
def test_dilations_and_groups_are_those_of_lax(settings):
    kernels = (((1, 1), (2, 2)), ((3, 3), (2, 2)), ((1, 7), (1, 1)), ((7, 1), (1, 1)))
    groups = settings.get("feature_group_count", 1)
    assert_equal_to_lax(
        *(
            (
                *arrays((9, 9), kernel, channels=4, groups=groups),
                strides,
                [(length, length) for length in kernel],
                settings,
            )
            for kernel, strides in kernels
        )
    )


@pytest.mark.parametrize("kernel", [1, 3, 5, 7, (1, 7), (7, 1), (1, 3), (3, 1)])
def test_a_layer_of_any_kernel_is_padded_by_half_of_it_or_not_at_all_and_has_no_bias(kernel):
    rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
    cases = [
        (padded_conv(4, kernel, stride, valid), np.float32(arrays(shape, (rows, columns), 2)[0]), stride, valid)
        for shape in ((9, 8), (2, 2))
        for stride, valid in ((1, False), (2, False), (2, True))
        if not valid or (shape[0] >= rows and shape[1] >= columns)
    ]
    weights = np.float32(arrays((1, 1), (rows, columns), 2)[1])
    assert jax.eval_shape(cases[0][0].init, jax.random.key(0), cases[0][1])["params"].keys() == {"kernel"}
    found = quick_jit(lambda weights: [layer.apply({"params": {"kernel": weights}}, x) for layer, x, *_ in cases])(
        weights
    )
    for y, (_, x, stride, valid) in zip(found, cases, strict=True):
        pads = ((0, 0), (0, 0)) if valid else ((rows // 2,) * 2, (columns // 2,) * 2)
        padded = np.pad(x, ((0, 0), *pads, (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns), axis=(1, 2))[:, ::stride, ::stride]
        expected = np.einsum("bhwcij,ijco->bhwo", windows, weights)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
