"""Initial values: He's distribution, addressed by seed and path."""

import jax
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from resnet_jax import models

CONFIG = {"family": "cifar", "depth": 20, "residual": True, "shortcut": "A", "bottleneck_stride": "first"}


def initial(seed=0, **fields):
    model = models.build(ConfigDict(CONFIG | fields), 10)
    return model, models.initial_variables(model, seed, (32, 32, 3))


def flat(tree):
    return traverse_util.flatten_dict(tree, sep="/")


def test_the_values_have_the_structure_that_flax_would_give_them():
    model, variables = initial()
    expected = jax.eval_shape(lambda: model.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32), train=False))
    assert jax.tree.structure(variables) == jax.tree.structure(expected)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), expected
    )


def test_kernels_are_he_normal_scales_one_and_biases_zero():
    _, variables = initial(depth=56)
    for name, leaf in flat(variables["params"]).items():
        if name.endswith("kernel"):
            deviation = np.sqrt(2 / np.prod(leaf.shape[1 if "rest" in name else 0 : -1]))
            assert abs(leaf.mean()) < 5 * deviation / np.sqrt(leaf.size)
            assert abs(leaf.std() / deviation - 1) < 5 / np.sqrt(2 * leaf.size)
        else:
            assert np.all(leaf == (1 if name.endswith("scale") else 0))


def test_a_gaussian_is_not_truncated():
    _, variables = initial(depth=56)
    kernel = variables["params"]["stage3"]["rest"]["conv1"]["kernel"][3]
    assert np.max(np.abs(kernel)) > 3 * np.std(kernel)


def test_seed_and_path_alone_settle_a_leaf():
    plain, residual, deep = (
        flat(initial(**fields)[1]["params"]) for fields in ({"residual": False}, {"shortcut": "B"}, {"depth": 56})
    )
    for other in (residual, deep):
        for name in plain.keys() & other.keys():
            shared = slice(len(plain[name]) if "rest" in name else None)  # A deeper net has more blocks.
            np.testing.assert_array_equal(plain[name], other[name][shared])
    other_seed = flat(initial(seed=1)[1]["params"])
    assert np.any(plain["head/kernel"] != other_seed["head/kernel"])
    assert np.any(plain["stage1/block0/conv1/kernel"] != plain["stage1/block0/conv2/kernel"])
