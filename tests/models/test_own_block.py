"""Blocks of a user's own, as docs/examples has them: their formulas, counts, twins, gates, and what is refused."""

import functools
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax import models, registry
from resnet_jax.errors import UserError
from resnet_jax.evaluation.nets import TrainedNet, write_weights
from resnet_jax.fields import FIELDS
from resnet_jax.instruments.observed import net_of
from resnet_jax.models.block import basic
from resnet_jax.models.gates import DELETED, RESIDUAL, Gate
from tests.models.reference import batch_norm, conv, option_a, relu, stages

EXAMPLES = pathlib.Path(__file__).parents[2] / "docs" / "examples"
IMAGE = (8, 8, 1)


@pytest.fixture(autouse=True)
def own(registrations):
    for name in ("squeeze_excite", "highway"):
        registry.import_file(EXAMPLES / f"{name}.py")


def images(batch=4):
    return np.random.default_rng(0).normal(size=(batch, *IMAGE))


def drawn(model, dtype=np.float32):
    """Return variables none of which has a special value."""
    random = np.random.default_rng(1)
    start = models.initial_variables(model, 0, IMAGE)
    return start | {
        "params": jax.tree.map(
            lambda leaf: (leaf + 0.1 * random.normal(size=leaf.shape)).astype(dtype), start["params"]
        )
    }


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(name, params, x):
    """Return the features of a net of 14 layers, from the formulas of the papers."""
    x = relu(batch_norm(conv(x, params["stem"]["conv"]["kernel"]), params["stem"]["bn"]))
    for block, stride, _ in stages(params, 2):
        y = relu(batch_norm(conv(x, block["conv1"]["kernel"], stride), block["bn1"]))
        y = batch_norm(conv(y, block["conv2"]["kernel"]), block["bn2"])
        identity = option_a(x, y.shape[-1], stride)
        if name == "highway":
            share = sigmoid(conv(x, block["gate"]["kernel"], stride) + block["gate"]["bias"])
            x = relu(share * y + (1 - share) * identity)
        else:
            hidden = relu(y.mean((1, 2)) @ block["squeeze"]["kernel"] + block["squeeze"]["bias"])
            share = sigmoid(hidden @ block["excite"]["kernel"] + block["excite"]["bias"])
            x = relu(share[:, None, None] * y + identity)
    return x.mean((1, 2))


@pytest.mark.parametrize("name", ["squeeze_excite", "highway"])
def test_an_example_is_short_and_computes_the_formula_of_its_paper(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 40
    with jax.enable_x64(True):
        model = models.build({"depth": 14, "block": name}, 10).clone(dtype=jnp.float64)
        variables = drawn(model, np.float64)
        logits, _ = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))(variables, images())
    params = variables["params"]
    expected = by_hand(name, params, images()) @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-6, atol=1e-8)


def test_own_blocks_are_counted_and_titled_and_have_a_plain_twin():
    usual, own = (
        models.totals(models.describe(models.build({"depth": 20, "block": block}, 10), (32, 32, 3)))
        for block in ("basic", "squeeze_excite")
    )
    # Of each block two linear layers with biases, from c to c/4 channels and back.
    added = sum(3 * (2 * c * c // 4 + c // 4 + c) for c in (16, 32, 64))
    assert own[0] - usual[0] == added
    assert models.title({"depth": 20, "block": "squeeze_excite"}) == "squeeze_excite residual-20"
    plain = {"depth": 20, "block": "highway", "residual": False}
    assert models.title(plain) == "highway plain-20"
    residual = models.build(plain | {"residual": True}, 10)
    shapes = [jax.tree.map(jnp.shape, models.template(net, IMAGE)) for net in (models.build(plain, 10), residual)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", ["squeeze_excite", "highway"])
def test_own_blocks_compute_in_bfloat16(name):
    model = models.build({"depth": 14, "block": name}, 10, "bfloat16")
    logits = model.apply(models.initial_variables(model, 0, IMAGE), np.float32(images()), train=False)
    assert logits.dtype == jnp.float32


@pytest.mark.parametrize("name", ["squeeze_excite", "highway"])
def test_gates_and_stochastic_depth_change_own_blocks_and_instruments_separate_them(name):
    fields = {"depth": 8, "block": name}
    model = models.build(fields, 10)
    variables, x = drawn(model), np.float32(images())
    net = net_of(models.complete(fields), 10, IMAGE)
    separated = {block.name: parts for block, parts in net.parts(variables, x, train=False)}
    outputs = net.outputs(variables, x, train=False)[1]
    for block, (branch, shortcut) in separated.items():
        np.testing.assert_allclose(outputs[block], relu(branch + shortcut), rtol=1e-5, atol=1e-6)
    gates = dict.fromkeys(separated, RESIDUAL) | {"stage3/block0": DELETED}
    deleted = net.outputs(net.gated(variables, gates), x, train=False)[1]["stage3/block0"]
    np.testing.assert_allclose(deleted, relu(separated["stage3/block0"].shortcut), rtol=1e-4, atol=1e-6)
    halved = Gate(1, 1, 0.5, 1)
    survival = models.build(fields | {"survival": 0.5, "survival_rule": "uniform"}, 10)
    expected = model.apply(variables | {"gates": models.gate_blocks(model, IMAGE, halved)}, x, train=False)
    np.testing.assert_allclose(survival.apply(variables, x, train=False), expected, rtol=1e-5, atol=1e-6)


def test_a_block_without_the_method_that_gates_wrap_is_refused():
    class Deaf(models.ConvBlock):
        @nn.compact
        def __call__(self, x):
            return self.join(self.branch(x), self.shortcut(x), None)

    models.register_block("deaf", Deaf)
    model = models.build({"depth": 8, "block": "deaf"}, 10)
    variables, x = models.initial_variables(model, 0, IMAGE), np.float32(images())
    assert model.apply(variables, x, train=False).shape == (4, 10)
    gated = variables | {"gates": models.gate_blocks(model, IMAGE, RESIDUAL)}
    with pytest.raises(UserError, match=r"Deaf never calls self\.gain, .* leave config\.gates"):
        model.apply(gated, x, train=False)


class BySuper(models.ConvBlock):
    """The block itself, by the methods that it inherits and arguments by keyword."""

    @nn.compact
    def __call__(self, x):
        shortcut = self.shortcut(x=x)
        return self.join(branch=self.branch(x=x), shortcut=shortcut, gain=self.gain())

    def branch(self, x):
        return super().branch(x)

    def shortcut(self, x):
        return super().shortcut(x)

    def gain(self):
        return super().gain()

    def join(self, branch, shortcut, gain):
        return self.last_norm()(branch, shortcut=shortcut, gain=gain)


def test_a_block_of_inherited_methods_is_gated_dropped_and_separated_as_its_ancestor():
    models.register_block("by_super", BySuper)
    results = []
    for block in ("basic", "by_super"):
        fields = {"depth": 14, "block": block, "survival": 0.5}
        model = models.build(fields, 10)
        x, gate = np.float32(images()), models.gate_blocks(model, IMAGE, Gate(0.5, 0.25, 0.75, 0.5))
        variables = drawn(model) | {"gates": gate}

        def loss(params, model=model, variables=variables, x=x):
            key = {"survival": jax.random.key(0)}
            logits, _ = model.apply(variables | {"params": params}, x, train=True, rngs=key, mutable=["batch_stats"])
            return -jnp.mean(jax.nn.log_softmax(logits)[:, 0])

        net = net_of(models.complete(fields), 10, IMAGE)
        parts = [tuple(part) for _, part in net.parts(variables, x, train=False)]
        results.append((jax.jit(jax.value_and_grad(loss))(variables["params"]), parts))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), *results)


def test_own_blocks_are_not_exported_under_the_names_of_pytorch(tmp_path):
    config = models.complete({"depth": 8, "block": "highway"})
    model = models.build(config, 10)
    zeros = np.zeros((1, 1, 1), np.float32)
    net = TrainedNet("mine", config, 10, model, models.initial_variables(model, 0, IMAGE), zeros, zeros + 1, crop=None)
    with pytest.raises(UserError, match=r"mine uses config\.model\.block='highway' of highway\.py .* no names"):
        write_weights(net, tmp_path / "mine.safetensors")


def test_what_an_own_block_does_not_go_with_is_refused():
    with pytest.raises(UserError, match=r"'highway' needs config\.model\.order='original', not 'preactivation'\."):
        models.build({"depth": 8, "block": "highway", "order": "preactivation"}, 10)
    with pytest.raises(UserError, match=r"'rezero' needs config\.model\.block='basic' or .*, not 'highway'\."):
        models.build({"depth": 8, "block": "highway", "branch_scaling": "rezero"}, 10)
    with pytest.raises(UserError, match=r"block='deep' has more than three convolutions, for which no depth"):
        models.register_block("deep", models.ConvBlock, lambda width, stride: 4 * basic(width, stride)[1:])
    with pytest.raises(UserError, match=r"config\.model\.block='list': .* is not a subclass of models\.ConvBlock"):
        models.register_block("list", list)
    with pytest.raises(UserError, match=r"config\.model\.block='basic' is a choice of this project"):
        models.register_block("basic", models.ConvBlock)
    assert FIELDS["model.block"].choices[-2:] == ("squeeze_excite", "highway")
