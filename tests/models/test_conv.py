"""Convolution, against ``lax`` in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models.layers.conv import convolve, padded_conv

AXES = ("NHWC", "HWIO", "NHWC")
# Sizes of the image, of the kernel, and strides.
SQUARE = [
    ((size, size), (kernel, kernel), (stride, stride))
    for size in (1, 2, 5, 8)
    for kernel, stride in ((1, 1), (1, 2), (3, 1), (3, 2), (5, 1), (5, 2), (7, 2))
]
OBLONG = [
    (size, kernel, strides)
    for size, strides in (((9, 8), (1, 1)), ((8, 9), (2, 2)), ((3, 6), (1, 2)))
    for kernel in ((1, 7), (7, 1), (3, 5))
]


def equal_to_lax(x, kernel, strides, padding, **settings):
    """Compare values and gradients in float64."""

    def results(function):
        def total(x, kernel):
            y = function(x, kernel, strides, padding, dimension_numbers=AXES, **settings)
            return jnp.sum(jnp.sin(y)), y

        return jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))(x, kernel)

    with jax.enable_x64(True):
        ours, theirs = results(convolve), results(jax.lax.conv_general_dilated)
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {jnp.dtype("float64")}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), ours, theirs)


def arrays(size, kernel, channels=3, groups=1):
    random = np.random.default_rng(1)
    return random.normal(size=(2, *size, channels)), random.normal(size=(*kernel, channels // groups, 4))


@pytest.mark.parametrize(("size", "kernel", "strides"), SQUARE + OBLONG)
def test_values_and_gradients_equal_those_of_lax(size, kernel, strides):
    padding = [(length // 2, length // 2) for length in kernel]
    equal_to_lax(*arrays(size, kernel), strides, padding)


@pytest.mark.parametrize(("size", "kernel", "strides"), [((8, 8), (3, 3), (2, 2)), ((9, 8), (1, 7), (1, 1))])
def test_so_do_those_in_the_form_for_other_platforms(size, kernel, strides, monkeypatch):
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, default, **forms: default(*args))
    padding = [(length // 2, length // 2) for length in kernel]
    equal_to_lax(*arrays(size, kernel), strides, padding)


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

        return jax.jit(jax.grad(lambda kernels: jnp.vdot(jax.grad(loss)(kernels), kernels)))(kernels)

    random, padding = np.random.default_rng(0), [(kernel // 2, kernel // 2)] * 2
    with jax.enable_x64(True):
        images, kernels = random.normal(size=(2, 4, 4, 3)), jnp.asarray(random.normal(size=(4, kernel, kernel, 3, 3)))
        ours, plain = product(convolve, is_looped=True), product(jax.lax.conv_general_dilated, is_looped=False)
        np.testing.assert_allclose(ours, plain, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("padding", ["SAME", "VALID", [(0, 1), (2, 0)]])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1)])
def test_any_padding_will_do(padding, strides):
    equal_to_lax(*arrays((8, 7), (3, 3)), strides, padding)


@pytest.mark.parametrize(
    ("kernel", "strides"), [((1, 1), (2, 2)), ((3, 3), (2, 2)), ((1, 7), (1, 1)), ((7, 1), (1, 1))]
)
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
def test_dilations_and_groups_are_those_of_lax(kernel, strides, settings):
    groups = settings.get("feature_group_count", 1)
    padding = [(length, length) for length in kernel]
    equal_to_lax(*arrays((9, 9), kernel, channels=4, groups=groups), strides, padding, **settings)


def test_a_layer_is_padded_by_half_its_kernel_on_every_side_and_has_no_bias():
    for kernel, shape in ((3, (1, 5, 4, 2)), (7, (1, 5, 4, 2)), ((1, 7), (1, 5, 4, 2))):
        y, variables = padded_conv(2, kernel, 2).init_with_output(jax.random.key(0), jnp.ones((1, 9, 8, 1)))
        assert y.shape == shape
        assert variables["params"].keys() == {"kernel"}
