"""Layers, against the same formulas in float64 as JAX differentiates them, and against Flax."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models.layers import BatchNorm, convolve, normalise_by_batch


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (5, 2), (7, 2)])
@pytest.mark.parametrize("size", [1, 2, 4, 5, 8, 9])
def test_convolve_and_its_gradients_equal_those_of_lax_in_float64(size, kernel, stride):
    random = np.random.default_rng(1)
    x, w = random.normal(size=(2, size, size, 3)), random.normal(size=(kernel, kernel, 3, 5))
    padding = [(kernel // 2, kernel // 2)] * 2
    names = jax.lax.conv_dimension_numbers(x.shape, w.shape, ("NHWC", "HWIO", "NHWC"))

    def total(function, x, w):
        y = function(x, w, (stride, stride), padding, dimension_numbers=names)
        return jnp.sum(jnp.sin(y)), y

    with jax.enable_x64(True):
        results = [
            jax.value_and_grad(lambda x, w, f=f: total(f, x, w), argnums=(0, 1), has_aux=True)(x, w)
            for f in (convolve, jax.lax.conv_general_dilated)
        ]
        assert {leaf.dtype for leaf in jax.tree.leaves(results)} == {jnp.dtype("float64")}
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), *results)


def arrays(*shapes, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(size=shape) for shape in shapes]


@pytest.mark.parametrize("has_shortcut", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_batch_norm_and_its_gradients_are_those_of_the_formula_in_float64(relu, has_shortcut):
    x, shortcut, weights, scale, bias = arrays((6, 5, 4, 3), (6, 5, 4, 3), (6, 5, 4, 3), 3, 3)
    shortcut = shortcut if has_shortcut else None

    def formula(x, scale, bias, shortcut):
        mean, var = jnp.mean(x, (0, 1, 2), keepdims=True), jnp.var(x, (0, 1, 2), keepdims=True)
        y = (x - mean) / jnp.sqrt(var + 1e-5) * scale[None, None, None] + bias[None, None, None]
        y = y + (0 if shortcut is None else shortcut)
        return (jnp.maximum(y, 0) if relu else y), mean.ravel(), var.ravel()

    def ours(x, scale, bias, shortcut):
        return normalise_by_batch(x, scale, bias, shortcut, relu, None, 1e-5)

    def total(function, *arguments):
        y, mean, var = function(*arguments)
        return jnp.sum(weights * jnp.sin(y)), (y, mean, var)

    with jax.enable_x64(True):
        arguments = jax.tree.map(jnp.asarray, (x, scale, bias, shortcut))
        results = [
            jax.value_and_grad(lambda *a, f=f: total(f, *a), argnums=(0, 1, 2, 3), has_aux=True)(*arguments)
            for f in (ours, formula)
        ]
        assert {leaf.dtype for leaf in jax.tree.leaves(results)} == {jnp.dtype("float64")}
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), *results)


@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_has_the_variables_and_the_values_of_flax(train):
    x, shortcut, scale, bias, mean = arrays((8, 4, 4, 3), (8, 4, 4, 3), 3, 3, 3)
    variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": {"mean": mean, "var": np.exp(mean)}}
    variables = jax.tree.map(np.float32, variables)
    flax_norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5)
    theirs, their_updates = flax_norm.apply(variables, np.float32(x), mutable=["batch_stats"])
    y, updates = BatchNorm(train).apply(variables, np.float32(x), np.float32(shortcut), mutable=["batch_stats"])
    np.testing.assert_allclose(y, np.maximum(theirs + shortcut, 0), rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), updates, their_updates)
    initial = BatchNorm(train).init(jax.random.key(0), np.float32(x))
    assert jax.tree.map(jnp.shape, initial) == jax.tree.map(jnp.shape, variables)


@pytest.mark.devices(8)
def test_batch_norm_over_devices_is_that_of_the_whole_batch_and_so_are_its_gradients():
    x, scale, bias, weights = map(np.float32, arrays((16, 4, 4, 3), 3, 3, (16, 4, 4, 3)))
    mesh = jax.make_mesh((8,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    whole, share = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("devices")

    def gradients(axis_name, x, weights):
        varying = (
            (jax.lax.pcast(leaf, axis_name, to="varying") for leaf in (scale, bias)) if axis_name else (scale, bias)
        )

        def total(x, scale, bias):
            y, mean, var = normalise_by_batch(x, scale, bias, None, True, axis_name, 1e-5)
            return jnp.sum(weights * y), (mean, var)

        (_, statistics), (by_x, *by_others) = jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)(x, *varying)
        return by_x, jax.lax.psum(by_others, axis_name) if axis_name else by_others, statistics

    mapped = jax.shard_map(
        lambda *a: gradients("devices", *a), mesh=mesh, in_specs=share, out_specs=(share, whole, whole)
    )
    over_devices, on_one = jax.jit(mapped)(x, weights), gradients(None, x, weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), over_devices, on_one)


def test_batch_norm_of_bfloat16_takes_its_sums_in_float32():
    (x,) = arrays((512, 4, 4, 1), seed=3)
    x = jnp.asarray(100 + x, jnp.bfloat16)
    one, zero = jnp.ones(1), jnp.zeros(1)
    y, mean, var = normalise_by_batch(x, one, zero, None, False, None, 1e-5)
    wide = np.asarray(x, np.float64)
    assert (y.dtype, mean.dtype, var.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    np.testing.assert_allclose(mean, wide.mean(), rtol=1e-5)
    np.testing.assert_allclose(var, wide.var(), rtol=5e-2)  # The mean of squares less the square of the mean.
