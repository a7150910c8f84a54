"""Orders, shortcuts and stochastic depth, against their formulas and the identities between them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.fields import OrderName, names
from resnet_jax.models.block import ConvBlock, zero_padded
from resnet_jax.models.variants.shortcuts import pooled
from resnet_jax.models.variants.stochastic_depth import survival_probabilities
from tests.models.nets import small_net

IMAGE = (8, 8, 1)
ORDERS, KINDS = names(OrderName), ("basic", "bottleneck", "single")


def net(kind="basic", stage_sizes=(3, 2), residual=True, survival=(), dtype=jnp.float32, **fields):
    model = small_net(stage_sizes, block=kind, residual=residual, settings={"dtype": dtype}, **fields)
    return model.clone(survival=survival)


def images(batch=8):
    return np.random.default_rng(0).normal(size=(batch, *IMAGE)).astype(np.float32)


def loss_and_gradients(model, variables, key=0):
    @jax.jit
    def compute(variables, key):
        def loss(params):
            rngs = {"dropout": key, "survival": key}
            whole = {**variables, "params": params}
            logits, updates = model.apply(whole, images(), train=True, mutable=["batch_stats"], rngs=rngs)
            return -jnp.mean(jax.nn.log_softmax(logits)[:, 0]), updates

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    return compute(variables, jax.random.key(key))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_reaches_every_parameter_of_both_twins(kind, order):
    for residual in (True, False):
        model = net(kind, (2, 1), residual, shortcut="B", order=order)
        _, gradients = loss_and_gradients(model, models.initial_variables(model, 0, IMAGE))
        for name, leaf in traverse_util.flatten_dict(gradients, sep="/").items():
            assert np.any(leaf), (residual, name)


def test_without_shortcuts_all_orders_are_the_same_net():
    """The order is where the addition comes; without one, the layers follow each other as before."""
    kernels, logits = [], []
    for order in ORDERS:
        model = net(residual=False, order=order)
        variables = models.initial_variables(model, 0, IMAGE)
        kernels.append([leaf for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim > 1])
        logits.append(jax.jit(functools.partial(model.apply, train=False))(variables, images()))
    for other in zip(kernels, logits, strict=True):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), (kernels[0], logits[0]), other
        )


@pytest.mark.parametrize("order", ORDERS)
def test_branches_of_zero_leave_the_shortcut(order):
    """What is left is the stem, the identity and, for pre-activation nets, the last activation."""
    model = net(stage_sizes=(3,), order=order).clone(widths=(4,))
    variables = models.initial_variables(model, 0, IMAGE)
    last = {"preactivation": ("conv2", "kernel"), "norm_after_addition": ("conv2", "kernel")}
    flat = traverse_util.flatten_dict(variables["params"])
    zero = last.get(order, ("bn2", "scale"))
    flat = {path: 0 * leaf if path[-2:] == zero else leaf for path, leaf in flat.items()}
    variables["params"] = traverse_util.unflatten_dict(flat)
    _, captured = model.apply(variables, images(), train=False, capture_intermediates=True)
    stem, stage = (captured["intermediates"][name]["__call__"][0] for name in ("stem", "stage1"))
    # In evaluation a fresh norm divides by the root of 1 + 1e-5.
    np.testing.assert_allclose(stage, stem, rtol=5e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_bfloat16_computes_in_bfloat16_but_keeps_parameters_statistics_and_logits_in_float32(order):
    model = net(stage_sizes=(2,), order=order, dtype=jnp.bfloat16).clone(widths=(4,))
    variables = models.initial_variables(model, 0, IMAGE)
    logits, captured = model.apply(
        variables, images(2), train=True, mutable=["batch_stats", "intermediates"], capture_intermediates=True
    )
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(captured["batch_stats"])} == {jnp.dtype("float32")}
    layers = traverse_util.flatten_dict(captured["intermediates"])
    assert {leaf[0].dtype for path, leaf in layers.items() if len(path) > 1} == {jnp.dtype("bfloat16")}


def test_loops_over_preactivation_blocks_are_unrolled_and_rematerialised_to_the_same_numbers():
    model = net("bottleneck", (2, 2), shortcut="B", order="preactivation")
    variables = models.initial_variables(model, 0, IMAGE)
    looped = loss_and_gradients(model, variables)
    for settings in ({"unroll": True}, {"remat": True}):
        other = loss_and_gradients(model.clone(**settings), variables)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), looped, other)


def test_stochastic_depth_is_the_mean_depth_of_the_paper():
    probabilities = survival_probabilities(54, 0.5, "linear")
    assert probabilities[0] == pytest.approx(0.9907, abs=1e-4)
    assert probabilities[-1] == 0.5
    assert sum(probabilities) == pytest.approx(40.25)
    assert survival_probabilities(3, 0.25, "uniform") == (0.25,) * 3
    assert survival_probabilities(54, 1.0, "linear") == ()


NEVER = (1e-30,) * 3  # Below the least number that is drawn.


@pytest.mark.parametrize(
    ("shortcut", "order"),
    [
        *(("A", order) for order in ORDERS if order != "norm_after_addition"),
        ("pool", "original"),
        ("shortcut_gating", "original"),
    ],
)
def test_a_dropped_block_is_its_shortcut_and_its_statistics_stand_still(shortcut, order):
    dropped = net(stage_sizes=(2, 1), shortcut=shortcut, order=order, survival=NEVER)
    variables = models.initial_variables(dropped, 0, IMAGE)
    (loss, updates), gradients = loss_and_gradients(dropped, variables)
    static = dropped.clone(survival=())
    deleted = models.gate_blocks(static, IMAGE, models.Gate(1, 1, 0, 1))
    (expected, _), by_shortcuts = loss_and_gradients(static, variables | {"gates": deleted})
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(gradients["head"]["kernel"], by_shortcuts["head"]["kernel"], rtol=1e-4, atol=1e-6)
    for path, after in traverse_util.flatten_dict(updates["batch_stats"]).items():
        moved = np.any(after != traverse_util.flatten_dict(variables["batch_stats"])[path])
        assert moved == (not path[0].startswith("stage")), path
    for path, leaf in traverse_util.flatten_dict(gradients).items():
        assert np.any(leaf) == (not path[0].startswith("stage") or "gating" in path), path


def test_a_block_that_always_survives_is_the_static_one_and_in_evaluation_a_branch_is_multiplied():
    static = net()
    variables = models.initial_variables(static, 0, IMAGE)
    always = net(survival=(1.0,) * 5)
    results = [loss_and_gradients(model, variables) for model in (static, always)]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), *results)
    probabilities = survival_probabilities(5, 0.5, "linear")
    names = [layer.name for layer in models.walk(static, IMAGE) if layer.is_block]
    gates = {name: models.Gate(1, 1, p, 1) for name, p in zip(names, probabilities, strict=True)}
    expected = static.apply(variables | {"gates": models.gate_blocks(static, IMAGE, gates)}, images(), train=False)
    found = net(survival=probabilities).apply(variables, images(), train=False)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("order", [order for order in ORDERS if order != "norm_after_addition"])
def test_a_dropped_plain_block_passes_its_input_on_and_in_evaluation_all_are_computed(order):
    plain = net(stage_sizes=(2, 1), residual=False, order=order, survival=NEVER)
    variables = models.initial_variables(plain, 0, IMAGE)
    plain_loss, residual_loss = (
        loss_and_gradients(net(stage_sizes=(2, 1), residual=residual, order=order, survival=NEVER), variables)[0][0]
        for residual in (False, True)
    )
    np.testing.assert_allclose(plain_loss, residual_loss, rtol=1e-6)
    half, static = (
        plain.clone(survival=survival).apply(variables, images(), train=False) for survival in ((0.5,) * 3, ())
    )
    np.testing.assert_allclose(half, static, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", [{"unroll": True}, {"remat": True}], ids=str)
def test_blocks_are_drawn_one_by_one_by_the_key_alone_however_the_loop_is_compiled(settings):
    model = net(stage_sizes=(9,), survival=(0.5,) * 9).clone(widths=(4,))
    variables = models.initial_variables(model, 0, IMAGE)

    def alive(model, key):
        """Return which blocks had their statistics moved."""
        (_, updates), _ = loss_and_gradients(model, variables, key)
        leaves = models.unstack(updates["batch_stats"])
        return {path[:2]: bool(np.any(leaf)) for path, leaf in leaves.items() if path[2:] == ("bn2", "mean")}

    first = alive(model, 0)
    assert len(first) == 9
    assert set(first.values()) == {True, False}
    assert alive(model, 1) != first
    assert alive(model.clone(**settings), 0) == first


def test_the_layers_of_a_net_of_stochastic_depth_are_recorded_for_the_finder_of_non_finite_ones():
    model = net(survival=(0.5,) * 5)
    variables = models.initial_variables(model, 0, IMAGE)
    key = jax.random.key(0)
    options = {"train": True, "rngs": {"survival": key}}
    logits, _ = model.apply(variables, images(), mutable=["batch_stats"], **options)
    recorded, captured = model.apply(
        variables, images(), mutable=["batch_stats", "intermediates"], capture_intermediates=True, **options
    )
    np.testing.assert_allclose(recorded, logits, rtol=1e-5, atol=1e-6)
    assert captured["intermediates"]["stage1"]["rest"]["conv2"]["__call__"][0].shape == (2, 8, 8, 8, 4)


def test_identities_keep_or_average_pixels_and_add_empty_channels():
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype(np.float32)
    block = ConvBlock(residual=True, train=False, stride=2, conv=None, norm=None, width=8, dropout=None)
    averages = pooled(block, x)
    np.testing.assert_allclose(averages[..., :4], x.reshape(2, 2, 2, 2, 2, 4).mean((2, 4)), rtol=1e-6)
    assert not np.any(averages[..., 4:])
    assert zero_padded(x, 4, 1) is x


def test_a_block_that_narrows_has_no_identity():
    with pytest.raises(UserError, match=r"narrows from 8 to 4 channels has no identity as shortcut"):
        zero_padded(np.zeros((1, 2, 2, 8)), 4, 1)


def test_learned_gating_begins_where_its_bias_says():
    """A sigmoid of -6 is 0.0025: at first such a net is nearly the residual one."""
    logits = []
    for options in ({"shortcut": "A"}, {"shortcut": "shortcut_gating", "gating_bias": -30.0}):
        model = net(**options)
        variables = models.initial_variables(model, 0, IMAGE)
        logits.append(model.apply(variables, images(), train=False))
    np.testing.assert_allclose(*logits, rtol=1e-5, atol=1e-6)
    assert float(variables["params"]["stage1"]["block0"]["gating"]["bias"][0]) == -30
