"""The networks, against an independent float64 forward pass and the identities of the paper."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from ml_collections import ConfigDict

from resnet_jax import models
from resnet_jax.models.block import zero_padded
from resnet_jax.models.layers import conv, norm
from tests.models.nets import small_net

FAMILY_IMAGES = {"cifar": (8, 8, 3), "imagenet": (32, 32, 3)}
# Of each kind a net that compiles in seconds: a loop of two blocks and one of a single block.
KINDS = {
    "basic": ({}, False, (8, 8, 3)),
    "bottleneck": ({"bottleneck_stride": "middle"}, True, (32, 32, 3)),
}


def model_config(family="cifar", depth=8, residual=True, shortcut="A", bottleneck_stride="first"):
    return ConfigDict(locals())


def make(config, seed=0, classes=10, **settings):
    model = models.build(config, classes, **settings)
    return model, models.initial_variables(model, seed, FAMILY_IMAGES[config.family])


def make_small(kind="basic", residual=True, shortcut="A", **settings):
    """Return a net of seven or nine layers, its initial variables and images for it."""
    fields, imagenet_stem, shape = KINDS[kind]
    settings["imagenet_stem"] = imagenet_stem
    model = small_net(block=kind, residual=residual, shortcut=shortcut, settings=settings, **fields)
    return model, models.initial_variables(model, 0, shape), images(shape)


def images(shape, batch=4, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, *shape)).astype(np.float32)


def flat(tree):
    return traverse_util.flatten_dict(tree, sep="/")


def loss_and_gradients(model, variables, x):
    @jax.jit
    def loss(params):
        logits, updates = model.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.mean(jax.nn.log_softmax(logits)[:, 0]), updates

    return jax.value_and_grad(loss, has_aux=True)(variables["params"])


@pytest.mark.slow
@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
def test_unrolled_and_rematerialised_loops_change_nothing_but_rounding(shortcut):
    looped = loss_and_gradients(*make_small(shortcut=shortcut))
    for settings in ({"unroll": True}, {"remat": True}):
        other = loss_and_gradients(*make_small(shortcut=shortcut, **settings))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), looped, other)


@pytest.mark.parametrize(
    ("kind", "shortcut"), [("basic", None), ("basic", "A"), ("basic", "B"), ("basic", "C"), ("bottleneck", "B")]
)
def test_gradients_written_here_equal_those_that_jax_derives_in_float64(kind, shortcut, monkeypatch):
    """Of whole nets, whose layers JAX differentiates when they are replaced by the formulas; in the forms for both."""

    def formula(x, scale, bias, shortcut, relu, axis_name, epsilon):
        mean, var = jnp.mean(x, (0, 1, 2), keepdims=True), jnp.var(x, (0, 1, 2), keepdims=True)
        y = (x - mean) / jnp.sqrt(var + epsilon) * scale[None, None, None] + bias[None, None, None]
        y = y if shortcut is None else y + shortcut
        return jnp.maximum(y, 0) if relu else y, mean.ravel(), var.ravel()

    with jax.enable_x64(True):
        model, variables, x = make_small(
            kind, residual=shortcut is not None, shortcut=shortcut or "A", dtype=jnp.float64
        )
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        written = []
        for form in ("cpu", "default"):
            monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, form=form, **forms: forms[form](*args))
            written.append(loss_and_gradients(model, wide, x))
        monkeypatch.setattr(norm, "normalise_by_batch", formula)
        monkeypatch.setattr(
            conv,
            "_convolve",
            functools.partial(jax.lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC")),
        )
        derived = loss_and_gradients(model, wide, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(written)} == {jnp.dtype("float64")}
    for each in written:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8), each, derived)


def test_the_program_does_not_grow_with_the_depth():
    def lines(depth):
        model, variables = make(model_config(depth=depth))
        x = images(FAMILY_IMAGES["cifar"])
        state = {"batch_stats": variables["batch_stats"]}
        loss = lambda params: jnp.sum(model.apply({"params": params, **state}, x, train=False))  # noqa: E731
        return len(jax.jit(jax.grad(loss)).lower(variables["params"]).as_text().splitlines())

    assert lines(110) == lines(20)


def test_the_zero_padded_identity_keeps_every_second_pixel_and_adds_empty_channels():
    x = images((5, 5, 2))
    y = zero_padded(x, features=6, stride=2)
    assert y.shape == (4, 3, 3, 6)
    np.testing.assert_array_equal(y[..., 2:4], x[:, ::2, ::2])
    assert not np.any(y[..., :2])
    assert not np.any(y[..., 4:])


def reference_forward(variables, x, residual, shortcut, blocks):
    """Return the logits of a CIFAR net in training mode, in float64 and by the formulas of the paper."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])

    def conv(x, kernel, stride):
        size = kernel.shape[0]
        x = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
        return np.einsum("bhwcij,ijco->bhwo", windows, kernel)

    def norm(x, layer):
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return (x - mean) / np.sqrt(variance + 1e-5) * layer["scale"] + layer["bias"]

    def relu(x):
        return np.maximum(x, 0)

    x = relu(norm(conv(x, params["stem"]["conv"]["kernel"], 1), params["stem"]["bn"]))
    for stage, width in ((1, 16), (2, 32), (3, 64)):
        for index in range(blocks):
            layers = params[f"stage{stage}"]["block0"]
            if index > 0:
                layers = jax.tree.map(lambda leaf, index=index: leaf[index - 1], params[f"stage{stage}"]["rest"])
            stride = 2 if stage > 1 and index == 0 else 1
            y = relu(norm(conv(x, layers["conv1"]["kernel"], stride), layers["bn1"]))
            y = norm(conv(y, layers["conv2"]["kernel"], 1), layers["bn2"])
            if residual and "shortcut" in layers:
                y = y + norm(conv(x, layers["shortcut"]["conv"]["kernel"], stride), layers["shortcut"]["bn"])
            elif residual:
                padded = np.zeros((*x[:, ::stride, ::stride].shape[:3], width))
                start = (width - x.shape[-1]) // 2
                padded[..., start : start + x.shape[-1]] = x[:, ::stride, ::stride]
                y = y + padded
            x = relu(y)
    assert shortcut == "A" or not residual or "shortcut" in params["stage2"]["block0"]
    return x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]


@pytest.mark.parametrize(
    ("residual", "shortcut"), [(False, "A"), (True, "A"), (True, "B"), (True, "C")], ids=["plain", "A", "B", "C"]
)
def test_logits_equal_an_independent_forward_pass(residual, shortcut):
    model, variables = make(model_config(depth=14, residual=residual, shortcut=shortcut))
    x = images(FAMILY_IMAGES["cifar"])
    logits, _ = model.apply(variables, x, train=True, mutable=["batch_stats"])
    expected = reference_forward(variables, x, residual, shortcut, blocks=2)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)


def test_running_statistics_move_a_tenth_of_the_way_to_those_of_the_batch():
    model, variables = make(model_config())
    x = images(FAMILY_IMAGES["cifar"])
    _, updates = model.apply(variables, x, train=True, mutable=["batch_stats"])
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), axis=(1, 2))
    y = np.einsum("bhwcij,ijco->bhwo", windows, variables["params"]["stem"]["conv"]["kernel"])
    updated = updates["batch_stats"]["stem"]["bn"]
    np.testing.assert_allclose(updated["mean"], 0.1 * y.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(updated["var"], 0.9 + 0.1 * y.var((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize(("family", "depth"), [("cifar", 20), ("imagenet", 18), ("imagenet", 50)])
def test_plain_and_residual_nets_share_every_parameter_but_projections(family, depth):
    names = {}
    for residual, shortcut in ((False, "A"), (True, "A"), (True, "B"), (True, "C")):
        config = model_config(family, depth, residual, shortcut)
        model = models.build(config, 10)
        shapes = models.template(model, (64, 64, 3))
        names[residual, shortcut] = {name: leaf.shape for name, leaf in flat(shapes["params"]).items()}
    plain = names[False, "A"]
    assert names[True, "A"] == plain
    for option in "BC":
        more = names[True, option].keys() - plain.keys()
        assert names[True, option].items() >= plain.items()
        assert more
        assert all("/shortcut/" in name for name in more)
    assert names[True, "C"].keys() > names[True, "B"].keys()


@pytest.mark.parametrize("kind", KINDS)
def test_zeroed_branches_make_a_residual_net_the_identity_through_each_stage(kind):
    model, variables, x = make_small(kind)
    last = {"basic": "bn2", "bottleneck": "bn3"}[kind]
    params = {
        name: np.zeros_like(leaf) if f"/{last}/" in name else leaf for name, leaf in flat(variables["params"]).items()
    }
    variables["params"] = traverse_util.unflatten_dict(params, sep="/")
    _, captured = jax.jit(
        lambda variables: model.apply(
            variables, x, train=False, capture_intermediates=lambda module, _: (module.name or "").startswith("st")
        )
    )(variables)
    outputs = {name: value["__call__"][0] for name, value in captured["intermediates"].items()}
    x = outputs.pop("stem")
    for index, name in enumerate(sorted(outputs)):
        expected = zero_padded(x, outputs[name].shape[-1], stride=1 if index == 0 else 2)
        np.testing.assert_array_equal(outputs[name], expected)
        x = outputs[name]
    assert np.any(x)


@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_reaches_every_parameter(kind, residual):
    _, gradients = loss_and_gradients(*make_small(kind, residual, "B"))
    assert [name for name, leaf in flat(gradients).items() if not np.any(leaf)] == []
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize(
    ("where", "sizes"), [("first", {"conv1": 2, "conv2": 2}), ("middle", {"conv1": 4, "conv2": 2})]
)
def test_the_stride_of_a_bottleneck_is_where_the_field_says(where, sizes):
    model, variables = make(model_config("imagenet", 50, bottleneck_stride=where))
    _, captured = jax.eval_shape(
        lambda x: model.apply(variables, x, train=False, capture_intermediates=True), images((32, 32, 3))
    )
    block = captured["intermediates"]["stage3"]["block0"]
    expected = {"conv1": 4 if where == "middle" else 2, "conv2": 2}
    assert {name: block[name]["__call__"][0].shape[1] for name in sizes} == expected == sizes


def test_bfloat16_computes_in_bfloat16_but_keeps_parameters_statistics_and_logits_in_float32():
    results = []
    for dtype in (jnp.bfloat16, jnp.float32):
        model, variables, x = make_small(dtype=dtype)
        apply = functools.partial(model.apply, train=True, mutable=["batch_stats", "intermediates"])
        results.append(jax.jit(functools.partial(apply, capture_intermediates=True))(variables, x))
    (logits, updates), (exact, _) = results
    assert logits.dtype == jnp.float32
    assert updates["intermediates"]["stage2"]["__call__"][0].dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(updates["batch_stats"])} == {jnp.dtype("float32")}
    assert {leaf.dtype for leaf in jax.tree.leaves(variables["params"])} == {jnp.dtype("float32")}
    assert 0 < np.max(np.abs(logits - exact)) < 0.1 * np.std(exact) * 10
