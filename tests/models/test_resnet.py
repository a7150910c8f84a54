"""Plain and residual nets, against an independent forward pass in float64 and the identities of the paper."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from resnet_jax import models
from resnet_jax.models.block import zero_padded
from resnet_jax.models.layers import conv, norm
from tests.models import reference
from tests.models.nets import assert_close, drawn, flat, images, loss_and_gradients, quick_jit, small_net
from tests.models.reference import option_a, relu, stages

IMAGENET = {"block": "bottleneck", "bottleneck_stride": "middle", "settings": {"imagenet_stem": True}}


@pytest.mark.parametrize(
    "fields",
    [
        {"residual": False},
        {"shortcut": "A"},
        pytest.param({"shortcut": "B"}, marks=pytest.mark.slow),
        {"shortcut": "C"},
        pytest.param(IMAGENET | {"shortcut": "B"}, marks=pytest.mark.slow),
    ],
    ids=["plain", "A", "B", "C", "bottleneck"],
)
def test_gradients_written_here_equal_those_that_jax_derives_in_float64(fields, monkeypatch):
    """For a whole net, with the formulas in place of its layers; in the forms for CPUs and for other platforms."""

    def formula(x, scale, bias, shortcut, relu, axis_name, epsilon):
        mean, var = jnp.mean(x, (0, 1, 2), keepdims=True), jnp.var(x, (0, 1, 2), keepdims=True)
        y = (x - mean) / jnp.sqrt(var + epsilon) * scale[None, None, None] + bias[None, None, None]
        y = y if shortcut is None else y + shortcut
        return jnp.maximum(y, 0) if relu else y, mean.ravel(), var.ravel()

    with jax.enable_x64(True):
        x = np.float64(images((16, 16, 3) if "block" in fields else (8, 8, 3)))
        model = small_net((1, 2), **fields).clone(dtype=jnp.float64)
        variables = jax.tree.map(np.float64, models.initial_variables(model, 0, x.shape[1:]))
        written = []
        for form in ("cpu", "default"):
            monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, form=form, **forms: forms[form](*args))
            written.append(loss_and_gradients(model, variables, x))
        monkeypatch.setattr(norm, "normalise_by_batch", formula)
        by_jax = functools.partial(jax.lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        monkeypatch.setattr(conv, "_convolve", by_jax)
        derived = loss_and_gradients(model, variables, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(written)} == {jnp.dtype("float64")}
    for each in written:
        assert_close(each, derived, rtol=1e-6, atol=1e-8)


def test_the_program_does_not_grow_with_the_depth():
    def lines(depth):
        model, x = models.build({"depth": depth}, 10), images()
        variables = models.template(model, x.shape[1:])
        loss = lambda params: jnp.sum(model.apply(variables | {"params": params}, x, train=False))  # noqa: E731
        return len(jax.jit(jax.grad(loss)).lower(variables["params"]).as_text().splitlines())

    assert lines(110) == lines(20)


def test_the_zero_padded_identity_keeps_every_second_pixel_and_adds_empty_channels():
    x = images((5, 5, 2))
    y = zero_padded(x, features=6, stride=2)
    assert y.shape == (4, 3, 3, 6)
    np.testing.assert_array_equal(y[..., 2:4], x[:, ::2, ::2])
    assert not np.any(y[..., :2])
    assert not np.any(y[..., 4:])


@pytest.mark.parametrize("shortcut", [None, "A", "B", "C"])
def test_logits_and_running_statistics_equal_an_independent_forward_pass(shortcut):
    x = images()
    with jax.enable_x64(True):
        fields = {"depth": 14, "residual": shortcut is not None, "shortcut": shortcut or "A"}
        model = models.build(fields, 10).clone(dtype=jnp.float64)
        variables = drawn(model, dtype=np.float64)
        apply = functools.partial(model.apply, train=True, mutable=["batch_stats"])
        logits, updates = quick_jit(apply)(variables, x)
    params = variables["params"]
    before_norm = reference.conv(x, params["stem"]["conv"]["kernel"])
    updated = updates["batch_stats"]["stem"]["bn"]  # A tenth of the way to the batch's statistics.
    np.testing.assert_allclose(updated["mean"], 0.1 * before_norm.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(updated["var"], 0.9 + 0.1 * before_norm.var((0, 1, 2)), rtol=1e-4)
    x = relu(reference.batch_norm(before_norm, params["stem"]["bn"]))
    projected = 0
    for block, stride, _ in stages(params, 2):
        y = relu(reference.batch_norm(reference.conv(x, block["conv1"]["kernel"], stride), block["bn1"]))
        y = reference.batch_norm(reference.conv(y, block["conv2"]["kernel"]), block["bn2"])
        if "shortcut" in block:
            kernel, projected = block["shortcut"]["conv"]["kernel"], projected + 1
            y = y + reference.batch_norm(reference.conv(x, kernel, stride), block["shortcut"]["bn"])
        elif shortcut is not None:
            y = y + option_a(x, y.shape[-1], stride)
        x = relu(y)
    assert projected == {"B": 2, "C": 6}.get(shortcut, 0)
    np.testing.assert_allclose(logits, reference.head(params, x), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("family", "depth"), [("cifar", 14), ("imagenet", 18), ("imagenet", 50)])
def test_plain_and_residual_nets_share_every_parameter_but_projections(family, depth):
    def shapes(**fields):
        model = models.build({"family": family, "depth": depth} | fields, 10)
        return {name: leaf.shape for name, leaf in flat(models.template(model, (32, 32, 3))["params"]).items()}

    plain = shapes(residual=False)
    option_a, option_b, option_c = (shapes(shortcut=option) for option in "ABC")
    assert option_a == plain
    for option in (option_b, option_c):
        assert option.items() > plain.items()
        assert all("/shortcut/" in name for name in option.keys() - plain.keys())
    assert option_c.keys() > option_b.keys()


@pytest.mark.parametrize("fields", [{}, IMAGENET], ids=["basic", "bottleneck"])
def test_zeroed_branches_make_a_residual_net_the_identity_through_each_stage(fields):
    model, x = small_net((2, 1), **fields), images((16, 16, 3))
    variables = models.initial_variables(model, 0, x.shape[1:])
    last = "/bn3/" if fields else "/bn2/"
    zeroed = {name: 0 * leaf if last in name else leaf for name, leaf in flat(variables["params"]).items()}
    variables["params"] = traverse_util.unflatten_dict(zeroed, sep="/")

    def stem_and_stages(module, _):
        return (module.name or "").startswith("st")

    _, captured = quick_jit(
        functools.partial(model.apply, train=False, capture_intermediates=stem_and_stages, mutable=["intermediates"])
    )(variables, x)
    stem, *outputs = (captured["intermediates"][name]["__call__"][0] for name in ("stem", "stage1", "stage2"))
    for stride, output in zip((1, 2), outputs, strict=True):
        np.testing.assert_array_equal(output, zero_padded(stem, output.shape[-1], stride))
        stem = output
    assert np.any(stem)


@pytest.mark.parametrize(("where", "size"), [("first", 2), ("middle", 4)])
def test_the_stride_of_a_bottleneck_is_where_the_field_says(where, size):
    model = small_net((1, 1), block="bottleneck", bottleneck_stride=where)
    apply = functools.partial(model.apply, train=False, capture_intermediates=True, mutable=["intermediates"])
    _, captured = jax.eval_shape(apply, models.template(model, (4, 4, 3)), images((4, 4, 3)))
    block = captured["intermediates"]["stage2"]["block0"]
    assert {name: block[name]["__call__"][0].shape[1] for name in ("conv1", "conv2")} == {"conv1": size, "conv2": 2}
