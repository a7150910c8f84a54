"""RepVGG's blocks: their formula, and the plain net that they are in evaluation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.models.gates import PLAIN
from resnet_jax.surgery import merge
from tests.models.nets import evaluated, images, quick_jit
from tests.models.reference import batch_norm, conv, head, relu, stages

IMAGE = (8, 8, 3)
FIELDS = {"depth": 8, "block": "repvgg"}
X = np.float64(images())


def drawn(model, dtype=np.float64):
    """Return variables, statistics too, without special values such as biases of 0."""
    random = np.random.default_rng(1)

    def draw(path, leaf):
        name = path[-1].key
        spread = np.sqrt(1 / np.prod(leaf.shape[-4:-1])) if name == "kernel" else 0.3
        leaf = leaf + spread * np.clip(random.normal(size=leaf.shape), -2, 2)
        return leaf.astype(dtype)

    return jax.tree.map_with_path(draw, models.initial_variables(model, 0, IMAGE))


def test_a_net_computes_the_formula_of_the_paper():
    model = models.build(FIELDS, 10)
    with jax.enable_x64(True):
        variables = drawn(model)
        apply = functools.partial(model.clone(dtype=jnp.float64).apply, train=True, mutable=["batch_stats"])
        logits, _ = quick_jit(apply)(variables, X)
    params = variables["params"]
    x = relu(batch_norm(conv(X, params["stem"]["conv"]["kernel"]), params["stem"]["bn"]))
    for block, stride, index in stages(params, 2):
        shortcut = block["shortcut"]
        y = batch_norm(conv(x, block["conv1"]["kernel"], stride), block["bn1"])
        y = y + batch_norm(conv(x, shortcut["conv"]["kernel"], stride), shortcut["bn"])
        assert ("identity" in block) == (stride == 1), index
        x = relu(y + batch_norm(x, block["identity"]) if stride == 1 else y)
    np.testing.assert_allclose(logits, head(params, x), rtol=1e-8, atol=1e-10)


def test_a_merged_net_is_a_plain_one_that_computes_the_same():
    model = models.build(FIELDS, 10)
    with jax.enable_x64(True):
        variables = drawn(model)
        config, plain = merge.merged(FIELDS, variables)
        merged = models.build(config, 10)
        logits = [
            evaluated(net.clone(dtype=jnp.float64), leaves, X) for net, leaves in ((model, variables), (merged, plain))
        ]
        assert {leaf.dtype for leaf in jax.tree.leaves(plain)} == {jnp.dtype("float64")}
    np.testing.assert_allclose(*logits, rtol=1e-10, atol=1e-12)
    assert models.title(config) == "single plain-8"
    assert config.norm == "none"
    assert {path[-1] for path in traverse_util.flatten_dict(plain)} == {"kernel", "bias"}
    parameters = [models.totals(models.describe(net, IMAGE))[0] for net in (model, merged)]
    assert parameters[1] == sum(leaf.size for leaf in jax.tree.leaves(plain)) < parameters[0]


def test_without_its_branches_the_net_is_the_plain_single_one_with_the_same_values():
    fields = (FIELDS, FIELDS | {"residual": False}, FIELDS | {"residual": False, "block": "single"})
    training, plain, twin = (models.build(each, 10) for each in fields)
    variables = [models.initial_variables(model, 0, IMAGE) for model in (training, plain, twin)]
    jax.tree.map(np.testing.assert_array_equal, *variables[1:])
    gates = {"gates": models.gate_blocks(training, IMAGE, PLAIN)}
    closed, expected = (
        quick_jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))(leaves, images())[0]
        for model, leaves in ((training, variables[0] | gates), (twin, variables[2]))
    )
    np.testing.assert_allclose(closed, expected, rtol=1e-4, atol=1e-5)


def test_a_net_of_other_blocks_is_not_merged():
    model = models.build({"depth": 8}, 10)
    with pytest.raises(
        UserError, match=r"residual-8 has no branches to merge; give a net of config\.model\.block='rep"
    ):
        merge.merged({"depth": 8}, models.initial_variables(model, 0, IMAGE))
