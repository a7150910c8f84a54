"""Norms, against their formulas in float64 as JAX differentiates them, and against Flax."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from resnet_jax.models.layers.addition import Scaled
from resnet_jax.models.layers.norm import ACTIVATIONS, NORMS, BatchNorm, GroupNorm, normalise_by_batch
from tests.models.nets import quick_jit


def arrays(*shapes, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(size=shape) for shape in shapes]


@pytest.mark.parametrize("form", ["cpu", "tpu", "default"])
@pytest.mark.parametrize("has_shortcut", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_batch_norm_and_its_gradients_are_those_of_the_formula_in_float64(relu, has_shortcut, form, monkeypatch):
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, **forms: forms[form](*args))
    # 160 rows, whose sums are of groups of 32.
    x, shortcut, weights, scale, bias = arrays((8, 5, 4, 3), (8, 5, 4, 3), (8, 5, 4, 3), 3, 3)
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
            quick_jit(jax.value_and_grad(functools.partial(total, f), argnums=(0, 1, 2, 3), has_aux=True))(*arguments)
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
    over_devices, on_one = quick_jit(mapped)(x, weights), gradients(None, x, weights)
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


def test_group_norm_has_the_variables_and_the_values_of_flax():
    x, shortcut, scale, bias = map(np.float32, arrays((8, 4, 4, 6), (8, 4, 4, 6), 6, 6))
    variables = {"params": {"scale": scale, "bias": bias}}
    theirs = nn.GroupNorm(num_groups=2, epsilon=1e-5).apply(variables, x)
    y = GroupNorm(groups=4).apply(variables, x, shortcut)  # 6 channels have 2 groups of those.
    np.testing.assert_allclose(y, np.maximum(theirs + shortcut, 0), rtol=1e-4, atol=1e-5)
    assert jax.tree.map(jnp.shape, GroupNorm().init(jax.random.key(0), x)) == jax.tree.map(jnp.shape, variables)


def test_without_a_norm_there_is_a_bias_for_each_channel():
    x, shortcut, bias = map(np.float32, arrays((8, 4, 4, 6), (8, 4, 4, 6), 6))
    norm = NORMS["none"](True, None)()
    assert norm.init(jax.random.key(0), x)["params"].keys() == {"bias"}
    y = norm.apply({"params": {"bias": bias}}, x, shortcut)
    np.testing.assert_allclose(y, np.maximum(x + bias + shortcut, 0), rtol=1e-6)


# Norm, and whether it trains: only batch norm computes something else then.
EACH = pytest.mark.parametrize(("name", "train"), [*((name, True) for name in NORMS), ("batch", False)])


@EACH
def test_every_norm_follows_the_protocol(name, train):
    x, shortcut, bias = map(np.float32, arrays((8, 4, 4, 6), (8, 4, 4, 6), 6))
    norm = NORMS[name](train, None)()
    variables = norm.init(jax.random.key(0), x)
    variables["params"]["bias"] = bias

    def call(*arguments, **settings):
        return norm.apply(variables, x, *arguments, **settings, mutable=["batch_stats"])[0]

    branch = call(activate=False)
    np.testing.assert_array_equal(call(), np.maximum(branch, 0))
    np.testing.assert_allclose(call(shortcut), np.maximum(branch + shortcut, 0), rtol=1e-5, atol=1e-6)
    gained = call(Scaled(shortcut, 0.25, 1.0), activate=False, gain=0.5)
    np.testing.assert_allclose(gained, 0.5 * branch + 0.25 * shortcut, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(call(shortcut, activate=False, gain=0.0), shortcut)
    assert call(np.asarray(shortcut, jnp.bfloat16)).dtype == x.dtype


# From their papers, in float64.
FORMULAS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "crelu": lambda x: np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], axis=-1),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * scipy.stats.norm.cdf(x),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@EACH
def test_an_activation_follows_the_addition_in_every_norm(name, activation, train):
    x, shortcut, weights = map(np.float32, arrays((8, 4, 4, 6), (8, 4, 4, 6), (8, 4, 4, 6)))
    norm = NORMS[name](train, None)(activation=ACTIVATIONS[activation])
    variables = norm.init(jax.random.key(0), x)

    def call(x, shortcut, **settings):
        return norm.apply(variables, x, shortcut, **settings, mutable=["batch_stats"])[0]

    added = call(x, shortcut, activate=False)
    np.testing.assert_allclose(call(x, shortcut), FORMULAS[activation](np.float64(added)), rtol=1e-5, atol=1e-6)
    if activation != "crelu":
        # The derivative of the activation by its definition, times the gradient without it.
        slope = (FORMULAS[activation](np.float64(added) + 1e-6) - FORMULAS[activation](np.float64(added) - 1e-6)) / 2e-6
        expected = quick_jit(jax.grad(lambda x: jnp.sum(slope * weights * call(x, shortcut, activate=False))))(x)
        found = quick_jit(jax.grad(lambda x: jnp.sum(weights * call(x, shortcut))))(x)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
