"""The walk over a net."""

import jax
import numpy as np
from flax import traverse_util

from resnet_jax import models
from resnet_jax.models.layers import init

IMAGE = (8, 8, 3)


def net(depth=14):
    return models.build({"depth": depth, "shortcut": "B"}, 10)


def test_layers_come_in_the_order_of_the_forward_pass_and_blocks_after_their_layers():
    names = [layer.name for layer in models.walk(net(depth=20), IMAGE)]
    block = [
        "stage2/block0/shortcut/conv",
        "stage2/block0/shortcut/bn",
        "stage2/block0/shortcut",
        "stage2/block0/conv1",
        "stage2/block0/bn1",
        "stage2/block0/conv2",
        "stage2/block0/bn2",
        "stage2/block0",
        "stage2/block1/conv1",
    ]
    assert names[:3] == ["stem/conv", "stem/bn", "stem"]
    start = names.index(block[0])
    assert names[start : start + len(block)] == block
    assert names.index("stage2/block1") < names.index("stage2/block2/conv1") < names.index("stage2")
    assert names[-1] == "head"
    assert len(set(names)) == len(names)


def test_paths_and_blocks_find_the_variables():
    model = net(depth=20)
    variables = models.initial_variables(model, 0, IMAGE)
    leaves = traverse_util.flatten_dict(variables)
    found = 0
    for layer in models.walk(model, IMAGE):
        for (collection, name), variable in layer.variables.items():
            leaf = leaves[(collection, *layer.path, name)]
            leaf = leaf if layer.block is None else leaf[layer.block]
            assert leaf.shape == variable.shape
            found += leaf.size
    assert found == sum(leaf.size for leaf in leaves.values())


def test_each_variable_has_the_law_that_its_module_declares():
    laws = {
        name: {
            variable.law
            for layer in models.walk(net(), IMAGE)
            for at, variable in layer.variables.items()
            if at[1] == name
        }
        for name in ("kernel", "scale", "bias", "mean", "var")
    }
    assert laws == {
        "kernel": {init.he_normal},
        "scale": {init.ones},
        "bias": {init.zeros},
        "mean": {init.zeros},
        "var": {init.ones},
    }


def test_an_unrolled_or_rematerialised_net_has_the_same_layers():
    layers = models.walk(net(), IMAGE)
    for settings in ({"unroll": True}, {"remat": True}):
        assert models.walk(net().clone(**settings), IMAGE) == layers


def test_unstacked_variables_have_a_path_for_each_block_and_stack_to_what_they_were():
    model = net(depth=20)
    variables = models.initial_variables(model, 0, IMAGE)
    leaves = models.unstack(variables)
    kernel = leaves["params", "stage2", "block2", "conv1", "kernel"]
    np.testing.assert_array_equal(kernel, variables["params"]["stage2"]["rest"]["conv1"]["kernel"][1])
    again = models.stack(leaves, like=models.template(model, IMAGE))
    jax.tree.map(np.testing.assert_array_equal, again, variables)
