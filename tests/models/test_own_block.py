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
from tests.models import nets
from tests.models.nets import assert_close, evaluated, float64_logits
from tests.models.reference import batch_norm, conv, head, option_a, relu, stages

EXAMPLES = pathlib.Path(__file__).parents[2] / "docs" / "examples"
IMAGE = (8, 8, 1)


@pytest.fixture(autouse=True)
def own(registrations):
    for name in ("squeeze_excite", "highway"):
        registry.import_file(EXAMPLES / f"{name}.py")
    with nets.quick_compiling():
        yield


def initial(model):
    return models.initial_variables(model, 0, IMAGE)


drawn = functools.partial(nets.drawn, image_shape=IMAGE)
images = functools.partial(nets.images, IMAGE)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(name, params, x):
    """Return the outputs of the last block of a net of 8 layers, from the formulas of the papers."""
    x = relu(batch_norm(conv(x, params["stem"]["conv"]["kernel"]), params["stem"]["bn"]))
    for block, stride, _ in stages(params, 1):
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
    return x


@pytest.mark.parametrize("name", ["squeeze_excite", "highway"])
def test_an_example_is_short_and_computes_the_formula_of_its_paper(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 40
    x = np.float64(images())
    params, logits = float64_logits({"depth": 8, "block": name}, x)
    np.testing.assert_allclose(logits, head(params, by_hand(name, params, x)), rtol=1e-6, atol=1e-8)


def test_own_blocks_are_counted_and_titled_and_have_a_plain_twin():
    usual, own = (
        models.totals(models.describe(models.build({"depth": 20, "block": block}, 10), (32, 32, 3)))
        for block in ("basic", "squeeze_excite")
    )
    # In each block two linear layers with biases, from c to c/4 channels and back.
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
    model = models.build({"depth": 8, "block": name}, 10, "bfloat16")
    apply = functools.partial(model.apply, train=False, mutable=["intermediates"], capture_intermediates=True)
    logits, found = jax.eval_shape(apply, models.template(model, IMAGE), images())
    assert logits.dtype == jnp.float32
    assert found["intermediates"]["stage3"]["__call__"][0].dtype == jnp.bfloat16


@pytest.mark.parametrize("name", [pytest.param("squeeze_excite", marks=pytest.mark.slow), "highway"])
def test_gates_and_stochastic_depth_change_own_blocks_and_instruments_separate_them(name):
    fields = {"depth": 8, "block": name}
    model = models.build(fields, 10)
    variables, x = drawn(model), images()
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
    expected = evaluated(model, variables | {"gates": models.gate_blocks(model, IMAGE, halved)}, x)
    np.testing.assert_allclose(evaluated(survival, variables, x), expected, rtol=1e-4, atol=1e-5)


def test_a_block_without_the_method_that_gates_wrap_is_refused():
    class Deaf(models.ConvBlock):
        @nn.compact
        def __call__(self, x):
            return self.join(self.branch(x), self.shortcut(x), None)

    models.register_block("deaf", Deaf)
    model = models.build({"depth": 8, "block": "deaf"}, 10)
    variables, apply = models.template(model, IMAGE), functools.partial(model.apply, train=False)
    assert jax.eval_shape(apply, variables, images()).shape == (4, 10)
    gated = variables | {"gates": models.gate_blocks(model, IMAGE, RESIDUAL)}
    with pytest.raises(UserError, match=r"Deaf never calls self\.gain, .* leave config\.gates"):
        jax.eval_shape(apply, gated, images())


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


@pytest.mark.slow
def test_a_block_of_inherited_methods_is_gated_dropped_and_separated_as_its_ancestor():
    models.register_block("by_super", BySuper)
    results = []
    for block in ("basic", "by_super"):
        fields = {"depth": 14, "block": block, "survival": 0.5}
        model = models.build(fields, 10)
        gate = models.gate_blocks(model, IMAGE, Gate(0.5, 0.25, 0.75, 0.5))
        variables, rngs = drawn(model) | {"gates": gate}, {"survival": jax.random.key(0)}
        net = net_of(models.complete(fields), 10, IMAGE)
        parts = [tuple(part) for _, part in net.parts(variables, images(), train=False)]
        results.append((nets.loss_and_gradients(model, variables, images(), rngs=rngs), parts))
    assert_close(*results, rtol=1e-4, atol=1e-6)


def test_own_blocks_are_not_exported_under_the_names_of_pytorch(tmp_path):
    config = models.complete({"depth": 8, "block": "highway"})
    model = models.build(config, 10)
    zeros = np.zeros((1, 1, 1), np.float32)
    net = TrainedNet("mine", config, 10, model, initial(model), zeros, zeros + 1, crop=None)
    with pytest.raises(UserError, match=r"mine uses config\.model\.block='highway' of highway\.py .* no names"):
        write_weights(net, tmp_path / "mine.safetensors")


def test_choices_that_do_not_go_with_an_own_block_are_refused():
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
