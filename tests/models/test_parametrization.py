"""Kernels that are functions of learned parameters, against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax import models
from resnet_jax.models.layers.parametrization import RELU_GAIN, DiracConv, StandardizedConv
from tests.models.nets import flat, float64_logits, images
from tests.models.reference import batch_norm, conv, head, relu, stages, standardized

IMAGE = (8, 8, 3)


def arrays(*shapes):
    random = np.random.default_rng(0)
    return [random.normal(size=shape) for shape in shapes]


def dirac(layer):
    """Zagoruyko and Komodakis 2017, equations 3 and 4."""
    kernel = layer["kernel"]
    delta = np.zeros_like(kernel)
    for channel in range(min(kernel.shape[2:])):
        delta[1, 1, channel, channel] = 1
    unit = kernel / np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), axis=0)
    return layer["identity_gain"] * delta + layer["kernel_gain"] * unit


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("channels", "features"), [(3, 3), (3, 5), (5, 3)])
def test_layers_convolve_with_the_kernel_of_the_formula(channels, features, stride):
    x, kernel, a, b = arrays((2, 6, 6, channels), (3, 3, channels, features), features, features)
    with jax.enable_x64(True):
        layer = {"kernel": kernel, "identity_gain": a, "kernel_gain": b}
        found = DiracConv(features, 3, stride).apply({"params": layer}, x)
        np.testing.assert_allclose(found, conv(x, dirac(layer), stride), rtol=1e-9, atol=1e-12)
        layer = {"kernel": kernel, "gain": a}
        found = StandardizedConv(features, 3, stride).apply({"params": layer}, x)
        np.testing.assert_allclose(found, conv(x, standardized(layer, RELU_GAIN), stride), rtol=1e-9, atol=1e-12)


def test_dirac_layers_begin_near_the_identity():
    (x,) = np.float32(arrays((2, 6, 6, 4)))
    variables = DiracConv(4, 3).init(jax.random.key(0), x)
    assert set(np.ravel(variables["params"]["identity_gain"])) == {1}
    variables["params"]["kernel_gain"] *= 0
    np.testing.assert_allclose(DiracConv(4, 3).apply(variables, x), x, rtol=1e-6)


def test_standardised_weights_keep_a_variance_of_1_through_relu():
    assert pytest.approx(1.712858, abs=1e-6) == RELU_GAIN
    (x,) = np.float32(arrays((64, 4, 4, 128)))
    layer = StandardizedConv(256, 1)
    y = layer.apply(layer.init(jax.random.key(0), x), relu(x))
    assert np.var(y) == pytest.approx(1, rel=0.05)
    assert np.mean(np.mean(y, (0, 1, 2)) ** 2) < 0.01  # Without standardisation about 0.3.


def test_a_standardised_filter_of_equal_weights_is_zero_and_no_nan():
    x = np.ones((1, 4, 4, 2), np.float32)
    layer = {"kernel": np.ones((3, 3, 2, 2), np.float32), "gain": np.ones(2, np.float32)}
    gradient = jax.grad(lambda layer: jnp.sum(StandardizedConv(2, 3).apply({"params": layer}, x)))(layer)
    assert not np.any(StandardizedConv(2, 3).apply({"params": layer}, x))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def make(parametrization, depth=14, **fields):
    fields = {"depth": depth, "residual": False, "parametrization": parametrization} | fields
    return models.build(fields, 10)


def test_a_plain_dirac_net_is_the_papers_but_for_its_pooling():
    x = np.float64(images())
    params, logits = float64_logits({"depth": 14, "residual": False, "parametrization": "dirac"}, x)
    x = relu(batch_norm(conv(x, params["stem"]["conv"]["kernel"]), params["stem"]["bn"]))
    for block, stride, _ in stages(params, 2):
        x = relu(batch_norm(conv(x, dirac(block["conv1"]), stride), block["bn1"]))
        x = relu(batch_norm(conv(x, dirac(block["conv2"])), block["bn2"]))
    np.testing.assert_allclose(logits, head(params, x), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("parametrization", ["dirac", "standardized"])
def test_parametrised_nets_share_the_kernels_of_the_free_one(parametrization):
    free, own = (flat(models.initial_variables(make(each), 0, IMAGE)["params"]) for each in ("free", parametrization))
    for name, leaf in free.items():
        if name.endswith("kernel"):
            np.testing.assert_array_equal(own[name], leaf)


def test_parameters_are_those_of_the_formulas():
    """Two numbers for each feature of 54 Dirac convolutions; one of 55 standardised ones, whose norms have no scale."""
    counts = {
        name: models.totals(models.describe(make(name, depth=56, **fields), (32, 32, 3)))[0]
        for name, fields in (("free", {}), ("dirac", {}), ("standardized", {"norm": "none"}))
    }
    features = 18 * (16 + 32 + 64)
    assert counts["free"] == counts["standardized"] == 853_018
    assert counts["dirac"] == 853_018 + 2 * features
