"""Orders, shortcuts and stochastic depth, against their formulas and the identities between them."""

import functools

import jax
import numpy as np
import pytest
from flax import traverse_util

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.fields import OrderName, names
from resnet_jax.models.block import ConvBlock, zero_padded
from resnet_jax.models.variants.shortcuts import pooled
from resnet_jax.models.variants.stochastic_depth import survival_probabilities
from tests.models import nets
from tests.models.nets import assert_close, evaluated, flat, quick_jit, small_net

IMAGE = (8, 8, 1)
ORDERS = names(OrderName)
DROPPING_ORDERS = [order for order in ORDERS if order != "norm_after_addition"]
NEVER = (1e-30,) * 3  # Below the least number that is drawn.
images = functools.partial(nets.images, IMAGE)


def net(stage_sizes=(2, 1), survival=(), **fields):
    return small_net(stage_sizes, **fields).clone(survival=survival)


def initial(model):
    return models.initial_variables(model, 0, IMAGE)


def draws(key=0):
    return {"rngs": {"survival": jax.random.key(key)}}


def trained(model, variables, key=0):
    """Return loss and running statistics of a forward pass in training."""
    return quick_jit(functools.partial(nets.training_loss, model, **draws(key)))(variables, images())


def loss_and_gradients(model, variables, key=0):
    return nets.loss_and_gradients(model, variables, images(), **draws(key))


@pytest.mark.parametrize("kind", ["basic", "bottleneck", "single"])
def test_without_shortcuts_all_orders_are_the_same_net(kind):
    """The order is where the addition comes; without one, the layers follow each other as before."""
    kernels, logits = [], []
    for order in ORDERS:
        model = net(residual=False, order=order, block=kind)
        variables = initial(model)
        kernels.append([leaf for name, leaf in flat(variables["params"]).items() if name.endswith("kernel")])
        logits.append(evaluated(model, variables, images()))
    for other in zip(kernels, logits, strict=True):
        assert_close((kernels[0], logits[0]), other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_branches_of_zero_leave_the_shortcut(order):
    """The rest is the stem, the identity and, in pre-activation nets, the last activation."""
    model = net((3,), order=order).clone(widths=(4,))
    variables = initial(model)
    last = {"preactivation": ("conv2", "kernel"), "norm_after_addition": ("conv2", "kernel")}
    leaves = traverse_util.flatten_dict(variables["params"])
    zero = last.get(order, ("bn2", "scale"))
    leaves = {path: 0 * leaf if path[-2:] == zero else leaf for path, leaf in leaves.items()}
    variables["params"] = traverse_util.unflatten_dict(leaves)
    _, captured = model.apply(variables, images(), train=False, capture_intermediates=True)
    stem, stage = (captured["intermediates"][name]["__call__"][0] for name in ("stem", "stage1"))
    # In evaluation a fresh norm divides by the root of 1 + 1e-5.
    np.testing.assert_allclose(stage, stem, rtol=5e-5)


def test_stochastic_depth_is_the_mean_depth_of_the_paper():
    probabilities = survival_probabilities(54, 0.5, "linear")
    assert probabilities[0] == pytest.approx(0.9907, abs=1e-4)
    assert probabilities[-1] == 0.5
    assert sum(probabilities) == pytest.approx(40.25)
    assert survival_probabilities(3, 0.25, "uniform") == (0.25,) * 3
    assert survival_probabilities(54, 1.0, "linear") == ()


@pytest.mark.parametrize(
    ("shortcut", "order"),
    [*(("A", order) for order in DROPPING_ORDERS), ("pool", "original"), ("shortcut_gating", "original")],
)
def test_a_dropped_block_is_its_shortcut_and_its_statistics_stand_still(shortcut, order):
    dropped = net(shortcut=shortcut, order=order, survival=NEVER)
    variables = initial(dropped)
    (loss, updates), gradients = loss_and_gradients(dropped, variables)
    static = dropped.clone(survival=())
    deleted = models.gate_blocks(static, IMAGE, models.Gate(1, 1, 0, 1))
    expected, _ = trained(static, variables | {"gates": deleted})
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for path, after in flat(updates["batch_stats"]).items():
        moved = np.any(after != flat(variables["batch_stats"])[path])
        assert moved == (not path.startswith("stage")), path
    for path, leaf in flat(gradients).items():
        assert np.any(leaf) == (not path.startswith("stage") or "gating" in path), path


def test_a_block_that_always_survives_is_the_static_one_and_in_evaluation_a_branch_is_multiplied():
    static = net()
    variables = initial(static)
    always = net(survival=(1.0,) * 3)
    assert_close(*(loss_and_gradients(model, variables) for model in (static, always)), rtol=1e-4, atol=1e-6)
    probabilities = survival_probabilities(3, 0.5, "linear")
    blocks = models.block_names(static, IMAGE)
    gates = {name: models.Gate(1, 1, p, 1) for name, p in zip(blocks, probabilities, strict=True)}
    expected = evaluated(static, variables | {"gates": models.gate_blocks(static, IMAGE, gates)}, images())
    found = evaluated(net(survival=probabilities), variables, images())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("order", DROPPING_ORDERS)
def test_a_dropped_plain_block_passes_its_input_on_and_in_evaluation_all_are_computed(order):
    plain, residual = (net(residual=residual, order=order, survival=NEVER) for residual in (False, True))
    variables = initial(plain)
    losses = [trained(model, variables)[0] for model in (plain, residual)]
    np.testing.assert_allclose(*losses, rtol=1e-6)
    half, static = (evaluated(plain.clone(survival=each), variables, images()) for each in ((0.5,) * 3, ()))
    np.testing.assert_allclose(half, static, rtol=1e-5, atol=1e-6)


def test_blocks_are_drawn_one_by_one_only_by_the_key_however_the_loop_is_compiled():
    model = net((5,), survival=(0.5,) * 5).clone(widths=(4,))
    variables = initial(model)

    def alive(updates):
        """Return for each block whether its statistics moved."""
        leaves = models.unstack(updates["batch_stats"])
        return {path[:2]: bool(np.any(leaf)) for path, leaf in leaves.items() if path[2:] == ("bn2", "mean")}

    (_, updates), gradients = loss_and_gradients(model, variables)
    first = alive(updates)
    assert len(first) == 5
    assert set(first.values()) == {True, False}
    assert any(alive(trained(model, variables, key)[1]) != first for key in (1, 2))
    assert alive(trained(model.clone(unroll=True), variables)[1]) == first
    # The backward pass of a rematerialised block draws again.
    (_, updates), again = loss_and_gradients(model.clone(remat=True), variables)
    assert alive(updates) == first
    assert_close(again, gradients, atol=1e-5)


def test_the_layers_of_a_net_of_stochastic_depth_are_recorded_for_the_finder_of_non_finite_ones():
    model = net(survival=(0.5,) * 3)
    variables = initial(model)
    apply = functools.partial(model.apply, train=True, **draws())
    logits, _ = quick_jit(functools.partial(apply, mutable=["batch_stats"]))(variables, images())
    recording = functools.partial(apply, mutable=["batch_stats", "intermediates"], capture_intermediates=True)
    recorded, captured = quick_jit(recording)(variables, images())
    np.testing.assert_allclose(recorded, logits, rtol=1e-5, atol=1e-6)
    assert captured["intermediates"]["stage1"]["rest"]["conv2"]["__call__"][0].shape == (1, 4, 8, 8, 4)


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
        variables = initial(model)
        logits.append(evaluated(model, variables, images()))
    np.testing.assert_allclose(*logits, rtol=1e-5, atol=1e-6)
    assert float(variables["params"]["stage1"]["block0"]["gating"]["bias"][0]) == -30
