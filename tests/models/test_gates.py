"""Gates, against the static nets they replace and against hand-written nets in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax import models
from resnet_jax.models import ConvBlock, gates
from resnet_jax.models.block import zero_padded
from resnet_jax.models.gates import DELETED, MIRROR, PLAIN, RESIDUAL, SHORTCUT_GRADIENT_ONLY, STOP_GRADIENT, Gate
from tests.models import nets
from tests.models.nets import assert_close, flat, quick_jit, small_net

IMAGE = (8, 8, 1)


images = functools.partial(nets.images, IMAGE)


def net(stage_sizes=(2, 1), residual=True, shortcut="A", **settings):
    return small_net(stage_sizes, residual=residual, shortcut=shortcut, settings=settings)


@pytest.fixture(scope="module")
def variables():
    """Parameters and initial values of the small net, the same in all its twins."""
    return models.initial_variables(net(), 0, IMAGE)


def compute(model, variables, collection):
    """Return loss, running statistics and gradients under the collection "gates", or None."""
    gated = variables if collection is None else variables | {"gates": collection}
    return nets.loss_and_gradients(model, gated, images(), jit=lambda compute: compute)


@functools.cache
def compiled(**fields):
    """Return ``compute`` for the net of ``fields``, compiled; gates are data, so it serves all of them."""
    return quick_jit(functools.partial(compute, net(**fields)))


def assert_equal_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("residual", [pytest.param(True, marks=pytest.mark.slow), False], ids=["residual", "plain"])
@pytest.mark.parametrize("unroll", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["looped", "unrolled"])
def test_gates_make_the_static_twins_of_one_another_to_the_bit(variables, residual, unroll):
    def results(compute):
        yield compute(residual=residual, unroll=unroll)(variables, None)
        for is_residual in (True, False):
            model = net(residual=is_residual, unroll=unroll)
            collection = gates.gate_blocks(model, IMAGE, RESIDUAL if residual else PLAIN)
            yield compute(residual=is_residual, unroll=unroll)(variables, collection)

    # A compiler may contract the products and sums of two programs in two ways, so bits are compared without one.
    with jax.disable_jit():
        static, *gated = results(lambda **fields: functools.partial(compute, net(**fields)))
        for each in gated:
            assert_equal_bits(static, each)
    static, *gated = results(compiled)
    for each in gated:
        assert_close(static, each, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_a_gated_stop_is_the_static_stop_gradient_to_the_bit(variables, monkeypatch):
    collection = gates.gate_blocks(net(), IMAGE, STOP_GRADIENT)
    with jax.disable_jit():
        gated = compute(net(), variables, collection)
        identity = ConvBlock.identity
        monkeypatch.setattr(ConvBlock, "identity", lambda *arguments: jax.lax.stop_gradient(identity(*arguments)))
        static = compute(net(), variables, None)
    assert_equal_bits(static, gated)
    assert np.any(gated[1]["stem"]["conv"]["kernel"] != 0)


def two_blocks(params, x, gate, is_last_dropped=False):
    """Return the loss of a net of one stage with two blocks and its gradient by the stem's kernel, by hand.

    float64, in evaluation mode with fresh statistics, where a norm is ``scale * x / sqrt(1 + 1e-5) + bias``; in a net
    without norms it is ``x + bias``.
    """
    a, alpha, b, beta = gate

    def windows(x):
        return np.lib.stride_tricks.sliding_window_view(
            np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), axis=(1, 2)
        )

    def conv(x, kernel):
        return np.einsum("bhwcij,ijco->bhwo", windows(x), kernel)

    def conv_back(gradient, kernel):
        return np.einsum("bhwoij,ijco->bhwc", windows(gradient), kernel[::-1, ::-1])

    def factor(layer):
        return layer["scale"] / np.sqrt(1 + 1e-5) if "scale" in layer else 1

    def norm(x, layer):
        return x * factor(layer) + layer["bias"]

    def norm_back(gradient, layer):
        return gradient * factor(layer)

    stem = norm(conv(x, params["stem"]["conv"]["kernel"]), params["stem"]["bn"])
    y, tape = np.maximum(stem, 0), []
    rest = jax.tree.map(lambda leaf: leaf[0], params["stage1"]["rest"])
    for block, gain in ((params["stage1"]["block0"], b), (rest, 0 if is_last_dropped else b)):
        hidden = norm(conv(y, block["conv1"]["kernel"]), block["bn1"])
        branch = norm(conv(np.maximum(hidden, 0), block["conv2"]["kernel"]), block["bn2"])
        total = a * y + gain * branch
        tape.append((block, gain, hidden, total))
        y = np.maximum(total, 0)
    logits = y.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    by_logits = (p - np.eye(10)[0]) / len(x)
    size = y.shape[1] * y.shape[2]
    gradient = np.broadcast_to((by_logits @ params["head"]["kernel"].T)[:, None, None] / size, y.shape)
    for block, gain, hidden, total in reversed(tape):
        gradient = gradient * (total > 0)
        by_hidden = conv_back(norm_back(gain * gradient, block["bn2"]), block["conv2"]["kernel"]) * (hidden > 0)
        by_input = conv_back(norm_back(by_hidden, block["bn1"]), block["conv1"]["kernel"])
        gradient = alpha * gradient + beta * by_input
    by_stem = norm_back(gradient * (stem > 0), params["stem"]["bn"])
    return -np.log(p[:, 0]).mean(), np.einsum("bhwcij,bhwo->ijco", windows(x), by_stem)


@functools.cache
def of_two_blocks(is_last_dropped=False, is_recorded=False):
    """Return a compiled function of a gate, and parameters and images in float64, for ``two_blocks``.

    It returns the loss and its gradients in evaluation, with ``is_last_dropped`` for a net without norms in
    training, whose last block stochastic depth drops.
    """
    fields, survival = ({"norm": "none"}, (1.0, 1e-30)) if is_last_dropped else ({}, ())
    model = small_net((2,), (4,), **fields).clone(survival=survival)
    start, random = models.initial_variables(model, 0, IMAGE), np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * random.normal(size=leaf.shape), start["params"])
    others = jax.tree.map(np.float64, {name: tree for name, tree in start.items() if name != "params"})
    x = images(batch=3).astype(np.float64)
    options = {"train": is_last_dropped, "mutable": ["intermediates"] * is_recorded}

    def loss(params, collection):
        rngs = {"survival": jax.random.key(0)}
        whole = others | {"params": params, "gates": collection}
        logits, _ = model.clone(dtype=jnp.float64).apply(whole, x, rngs=rngs, **options)
        return -jnp.mean(jax.nn.log_softmax(logits)[:, 0])

    compiled = quick_jit(jax.value_and_grad(loss))
    return lambda gate: compiled(params, gates.gate_blocks(model, IMAGE, gate)), params, x


@pytest.mark.parametrize(
    "gate",
    [RESIDUAL, PLAIN, STOP_GRADIENT, MIRROR, SHORTCUT_GRADIENT_ONLY, DELETED, Gate(0.5, 0.25, 1.5, 0.75)],
    ids=["residual", "plain", "stop", "mirror", "only shortcut", "deleted", "all four"],
)
def test_value_and_gradient_are_those_of_a_hand_written_net_of_two_blocks_in_float64(gate):
    with jax.enable_x64(True):
        compute, params, x = of_two_blocks()
        value, gradients = compute(gate)
        by_hand, by_stem = two_blocks(params, x, gate)
        np.testing.assert_allclose(value, by_hand, rtol=1e-9)
        np.testing.assert_allclose(gradients["stem"]["conv"]["kernel"], by_stem, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("is_recorded", [False, True])
@pytest.mark.parametrize(
    "gate", [STOP_GRADIENT, RESIDUAL, Gate(0.5, 0.25, 1.5, 0.75)], ids=["stop", "open", "all four"]
)
def test_a_dropped_block_passes_its_shortcut_on_through_its_gate(gate, is_recorded):
    with jax.enable_x64(True):
        compute, params, x = of_two_blocks(is_last_dropped=True, is_recorded=is_recorded)
        value, gradients = compute(gate)
        by_hand, by_stem = two_blocks(params, x, gate, is_last_dropped=True)
        np.testing.assert_allclose(value, by_hand, rtol=1e-9)
        np.testing.assert_allclose(gradients["stem"]["conv"]["kernel"], by_stem, rtol=1e-7, atol=1e-10)
        assert np.any(by_stem) == (gate != STOP_GRADIENT)


def test_a_branch_learns_though_it_passes_no_gradient_on(variables):
    _, gradients = compiled()(variables, gates.gate_blocks(net(), IMAGE, SHORTCUT_GRADIENT_ONLY))
    for name, leaf in flat(gradients).items():
        assert np.any(leaf), name


def test_a_deleted_block_is_its_shortcut_exactly():
    model = net((3, 2))
    variables, names = models.initial_variables(model, 0, IMAGE), models.block_names(model, IMAGE)
    assert names == ["stage1/block0", "stage1/block1", "stage1/block2", "stage2/block0", "stage2/block1"]

    @quick_jit
    def outputs(collection):
        _, captured = model.apply(
            {**variables, "gates": collection},
            images(),
            train=False,
            capture_intermediates=lambda module, method: (
                method == "__call__" and (isinstance(module, ConvBlock) or module.name == "stem")
            ),
        )
        return captured["intermediates"]

    for deleted in ("stage1/block1", "stage2/block0"):
        found = outputs(
            gates.gate_blocks(model, IMAGE, {name: DELETED if name == deleted else RESIDUAL for name in names})
        )
        stage1, stage2 = found["stage1"], found["stage2"]
        first, rest = stage1["block0"]["__call__"][0], stage1["rest"]["__call__"][0]
        if deleted == "stage1/block1":
            np.testing.assert_array_equal(rest[0], first)
            assert np.any(rest[1] != rest[0])
        else:
            expected = zero_padded(rest[1], 8, 2)
            np.testing.assert_array_equal(stage2["block0"]["__call__"][0], expected)


@pytest.mark.slow
def test_a_shallow_net_runs_within_the_program_of_a_deep_one():
    deep, shallow = net((5, 4)), net((3, 3))
    chosen = {name: RESIDUAL if int(name[-1]) < 3 else DELETED for name in models.block_names(deep, IMAGE)}
    assert [*chosen.values()].count(DELETED) == 3
    # The deeper net's first blocks of each stage have the same initial values: they share their paths.
    ((loss, _), gradients), ((expected_loss, _), expected) = (
        quick_jit(functools.partial(compute, model))(models.initial_variables(model, 0, IMAGE), collection)
        for model, collection in ((deep, gates.gate_blocks(deep, IMAGE, chosen)), (shallow, None))
    )
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    for name, leaf in flat(gradients).items():
        if "rest" in name:
            assert not np.any(leaf[2:]), name
            leaf = leaf[:2]
        np.testing.assert_allclose(leaf, flat(expected)[name], rtol=1e-3, atol=1e-5)


def test_another_intervention_compiles_nothing(variables):
    compute = quick_jit(functools.partial(nets.training_loss, net(), x=images()))
    losses = {
        float(compute(variables | {"gates": gates.gate_blocks(net(), IMAGE, gate)})[0])
        for gate in (RESIDUAL, PLAIN, DELETED, Gate(0.5, 0.5, 1, 1))
    }
    assert len(losses) == 4
    assert compute._cache_size() == 1


def test_the_program_without_gates_has_nothing_of_them(variables):
    program = jax.jit(lambda variables: net().apply(variables, images(), train=False)).lower(variables).as_text()
    with_gates = variables | {"gates": gates.gate_blocks(net(), IMAGE, RESIDUAL)}
    gated = jax.jit(lambda variables: net().apply(variables, images(), train=False)).lower(with_gates).as_text()
    assert "tensor<4xf32>" in gated
    assert len(gated.splitlines()) > len(program.splitlines())


def test_gates_that_do_not_fit_the_blocks_are_refused():
    with pytest.raises(ValueError, match=r"stage9/block0.*stage1/block0"):
        gates.gate_blocks(net(), IMAGE, {"stage9/block0": RESIDUAL})
