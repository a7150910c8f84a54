"""Observed nets, against a net written by hand in jax.numpy, whose blocks are a plain loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from configs import recipes
from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.instruments import net_of
from resnet_jax.models.gates import DELETED, PLAIN, RESIDUAL, Gate
from tests.instruments.subjects import SHAPE, noise
from tests.surgery.nets import random_net

pytestmark = pytest.mark.usefixtures("eager")

LABELS = np.arange(8) % 10
SINGLE = {"block": "single", "depth": 8}  # Two blocks a stage, the second in a loop.


def of(**fields):
    """Return a net and variables of it that are not as drawn, float32."""
    own = random_net(**fields)
    return net_of(own.config, 10, SHAPE), jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), own.variables)


class ByHand:
    """The net of single blocks and depth 8, in order original and with option A; each stage has two blocks."""

    def __init__(self, variables, residual, train):
        """Unstack ``variables``."""
        self.leaves, self.residual, self.train = models.unstack(variables), residual, train

    def layer(self, x, conv, norm, stride=1):
        """Return a norm of a convolution of ``x``, with layers at the paths ``conv`` and ``norm``."""
        kernel = self.leaves["params", *conv, "kernel"]
        x = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        scale, bias = (self.leaves["params", *norm, name][None, None, None] for name in ("scale", "bias"))
        if self.train:
            mean, var = x.mean((0, 1, 2), keepdims=True), x.var((0, 1, 2), keepdims=True)
        else:
            mean, var = (self.leaves["batch_stats", *norm, name][None, None, None] for name in ("mean", "var"))
        return scale * (x - mean) / jnp.sqrt(var + 1e-5) + bias

    def block(self, index, x):
        name = (f"stage{index // 2 + 1}", f"block{index % 2}")
        stride = 2 if index in (2, 4) else 1
        y = self.layer(x, (*name, "conv1"), (*name, "bn1"), stride)
        if self.residual:
            missing = y.shape[-1] - x.shape[-1]
            y += jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (missing // 2, missing // 2)))
        return jax.nn.relu(y)

    def logits(self, offsets, images):
        """Return logits, and the outputs of all blocks, each changed by its offset."""
        x = jax.nn.relu(self.layer(images, ("stem", "conv"), ("stem", "bn")))
        outputs = []
        for index, offset in enumerate(offsets):
            outputs.append(x := self.block(index, x) + offset)
        return x.mean((1, 2)) @ self.leaves["params", "head", "kernel"] + self.leaves["params", "head", "bias"][
            None
        ], outputs


def close(found, expected):
    """Assert that arrays agree to 1e-4 of the largest number."""
    np.testing.assert_allclose(found, expected, atol=1e-4 * float(np.max(np.abs(expected))))


@pytest.mark.slow
@pytest.mark.parametrize(("residual", "train"), [(True, True), (False, True), (True, False)])
def test_outputs_and_gradients_equal_the_net_by_hand(residual, train):
    net, variables = of(residual=residual, **SINGLE)
    images, cotangent = noise(8), np.linspace(-1, 1, 10, dtype=np.float32)
    logits, outputs = net.outputs(variables, images, train=train)
    loss, gradients, _ = net.output_gradients(variables, images, LABELS, train=train)
    of_net = net.cotangent_gradients(variables, images, cotangent, train=train)
    assert list(outputs) == list(gradients) == list(of_net) == [block.name for block in net.blocks]

    zeros = [jnp.zeros((8, *block.shape)) for block in net.blocks]
    by_hand = functools.partial(ByHand(variables, residual, train).logits, images=images)
    expected, pull, expected_outputs = jax.vjp(by_hand, zeros, has_aux=True)
    close(logits, expected)
    log_probabilities = scipy.special.log_softmax(expected, axis=1)
    close(loss, -log_probabilities[np.arange(8), LABELS].mean())
    [by_loss] = pull(jnp.exp(log_probabilities) - jnp.eye(10)[LABELS])
    [by_cotangent] = pull(jnp.tile(cotangent, (8, 1)))
    for index, name in enumerate(outputs):
        close(outputs[name], expected_outputs[index])
        close(gradients[name], by_loss[index])
        close(of_net[name], by_cotangent[index])


@pytest.mark.slow
def test_gradients_by_parameters_are_gradients_of_the_sum_of_losses():
    net, variables = of(**SINGLE)
    _, _, by_sum = net.output_gradients(variables, noise(8), LABELS, train=True)
    others = {"batch_stats": variables["batch_stats"]}
    loss, by_mean = net.gradient(variables["params"], others, noise(8), LABELS, train=True)
    assert loss == pytest.approx(net.loss(variables["params"], others, noise(8), LABELS, train=True))
    jax.tree.map(lambda one, other: close(one, 8 * np.asarray(other)), by_sum, by_mean)


# The output of a block as a function of its parts.
def relu_of_sum(branch, shortcut):
    return np.maximum(branch + shortcut, 0)


def plain_sum(branch, shortcut):
    return branch + shortcut


@pytest.mark.parametrize(
    ("fields", "train", "joined"),
    [
        ({}, True, relu_of_sum),
        ({"residual": False}, False, lambda branch, shortcut: np.maximum(branch, 0)),
        ({"order": "preactivation"}, True, plain_sum),
        ({"shortcut": "C", "order": "relu_before_addition"}, False, plain_sum),
        pytest.param({"shortcut": "B"}, True, relu_of_sum, marks=pytest.mark.slow),
        pytest.param({"order": "relu_preactivation"}, True, plain_sum, marks=pytest.mark.slow),
        pytest.param({"block": "bottleneck", "depth": 11, "shortcut": "B"}, True, relu_of_sum, marks=pytest.mark.slow),
        pytest.param({"shortcut": "exclusive_gating"}, True, relu_of_sum, marks=pytest.mark.slow),
        pytest.param({"family": "inception", "depth": 20}, True, relu_of_sum, marks=pytest.mark.slow),
    ],
    ids=lambda each: each.__name__ if callable(each) else str(each),
)
def test_the_parts_of_a_block_make_its_output(fields, train, joined):
    net, variables = of(**fields)
    _, outputs = net.outputs(variables, noise(8), train=train)
    found = dict(net.parts(variables, noise(8), train=train))
    assert [block.name for block in found] == list(outputs)
    for block, (branch, shortcut) in found.items():
        assert branch.min() < 0 or joined is plain_sum
        close(joined(branch, shortcut), outputs[block.name])


@pytest.mark.parametrize("fields", [{}, {"residual": False}, {"order": "preactivation", "survival": 0.5}], ids=str)
def test_the_parts_of_a_block_are_without_its_own_gate(fields):
    """The first block has the same input whatever its gate; the next one has the output that the gates make."""
    net, variables = of(**SINGLE | fields)
    gate = Gate(0.5, 0.25, 2.0, 0.75)
    usual = dict(net.parts(net.gated(variables, {}), noise(8), train=False))
    gated = net.gated(variables, {net.blocks[0].name: gate})
    found = dict(net.parts(gated, noise(8), train=False))
    for expected, part in zip(usual[net.blocks[0]], found[net.blocks[0]], strict=True):
        close(part, expected)
    branch, shortcut = found[net.blocks[0]]
    joined = gate.branch * branch + gate.shortcut * shortcut
    is_linear = net.config.order == "preactivation"
    close(found[net.blocks[1]].shortcut, joined if is_linear else np.maximum(joined, 0))


@pytest.mark.parametrize("residual", [True, False])
def test_a_net_without_blocks_is_its_shortcuts(residual):
    net, variables = of(residual=residual, **SINGLE)
    deleted = net.gated(variables, {block.name: DELETED for block in net.blocks})
    _, outputs = net.outputs(deleted, noise(8), train=False)
    first, last = outputs["stage1/block0"], outputs["stage3/block1"]
    np.testing.assert_array_equal(outputs["stage1/block1"], first)
    np.testing.assert_array_equal(last, np.pad(first[:, ::4, ::4], ((0, 0), (0, 0), (0, 0), (24, 24))))


def test_gates_change_only_for_the_named_blocks():
    net, variables = of(**SINGLE)
    once = net.gated(variables, {"stage2/block1": DELETED})
    twice = net.gated(once, {"stage1/block0": PLAIN})
    # The module of gates walks the net instead.
    changed = {"stage1/block0": PLAIN, "stage2/block1": DELETED}
    gates = dict.fromkeys((block.name for block in net.blocks), RESIDUAL) | changed
    jax.tree.map(np.testing.assert_array_equal, twice["gates"], models.gate_blocks(net.model, SHAPE, gates))
    assert "gates" not in variables
    with pytest.raises(ValueError, match=r"residual-8 has no blocks stage4/block0"):
        net.gated(variables, {"stage4/block0": DELETED})


KINDS = [
    {"residual": False},
    {"order": "preactivation", "block": "bottleneck", "depth": 11, "shortcut": "B"},
    {"block": "single", "depth": 14},
    pytest.param({"block": "repvgg"}, marks=pytest.mark.slow),
    {"family": "wide", "depth": 10, "widening": 2},
    pytest.param({"family": "imagenet", "depth": 18}, marks=pytest.mark.slow),
    {"family": "densenet", "depth": 10, "growth": 4},
    pytest.param({"family": "inception", "depth": 20}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("fields", KINDS, ids=str)
def test_outputs_and_their_gradients_have_the_shapes_of_the_blocks(fields):
    shape = (64, 64, 3) if fields.get("family") == "imagenet" else SHAPE
    net = net_of(recipes.cifar(**{"depth": 8, "residual": True} | fields).model, 10, shape)
    variables = models.template(net.model, shape)
    images, labels = jax.ShapeDtypeStruct((4, *shape), jnp.float32), jax.ShapeDtypeStruct((4,), jnp.int32)
    logits, outputs = jax.eval_shape(functools.partial(net.outputs, train=True), variables, images)
    _, gradients, _ = jax.eval_shape(functools.partial(net.output_gradients, train=True), variables, images, labels)
    assert logits.shape == (4, 10)
    shapes = {block.name: (4, *block.shape) for block in net.blocks}
    assert {name: output.shape for name, output in outputs.items()} == shapes
    assert {name: gradient.shape for name, gradient in gradients.items()} == shapes


@pytest.mark.parametrize(
    ("fields", "layers"),
    [
        ({}, 2),
        ({"block": "single", "depth": 14}, 1),
        ({"block": "bottleneck", "depth": 11, "shortcut": "B"}, 3),
        ({"family": "densenet", "depth": 10, "growth": 4}, 1),
    ],
    ids=str,
)
def test_a_block_counts_its_convolutions(fields, layers):
    net = net_of(recipes.cifar(**{"depth": 8, "residual": True} | fields).model, 10, SHAPE)
    assert net.convolutions_per_block == layers


def test_equal_configs_are_one_net():
    config = recipes.cifar(8, residual=True).model
    assert net_of(config, 10, SHAPE) is net_of(recipes.cifar(8, residual=True).model, 10, SHAPE)
    assert net_of(config, 10, SHAPE) is not net_of(config, 2, SHAPE)
    assert net_of(config, 10, SHAPE) is not net_of(recipes.cifar(8, residual=False).model, 10, SHAPE)


def test_too_few_blocks_are_refused():
    net = net_of(recipes.cifar(8, residual=True).model, 10, SHAPE)
    net.require_blocks(3)
    with pytest.raises(UserError, match=r"^residual-8 has fewer than 4 blocks$"):
        net.require_blocks(4)
