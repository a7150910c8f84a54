"""Initial values: drawn by the law that each module declares, addressed by seed and path."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from ml_collections import ConfigDict

from resnet_jax import models
from resnet_jax.models import init
from resnet_jax.models.conv import padded_conv

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


def test_a_value_depends_on_seed_and_path_alone():
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


class Halves(nn.Module):
    """A net of two layers that declare other laws than ours do."""

    kernel_init: Any

    @nn.compact
    def __call__(self, images, train):
        x = padded_conv(4, 3, kernel_init=self.kernel_init, name="conv")(images)
        return nn.Dense(3, kernel_init=init.he_normal, bias_init=init.ones, name="head")(jnp.mean(x, (1, 2)))


def test_values_are_drawn_by_the_law_that_the_module_declares():
    uniform = init.Law(nn.initializers.uniform(), lambda random, shape: random.random(shape, np.float32))
    drawn = {
        name: models.initial_variables(Halves(law), 0, (8, 8, 3))["params"]
        for name, law in (("normal", init.he_normal), ("zeros", init.zeros), ("uniform", uniform))
    }
    assert not np.any(drawn["zeros"]["conv"]["kernel"])
    assert np.all((drawn["uniform"]["conv"]["kernel"] >= 0) & (drawn["uniform"]["conv"]["kernel"] < 1))
    assert np.any(drawn["normal"]["conv"]["kernel"] < 0)
    for params in drawn.values():
        np.testing.assert_array_equal(params["head"]["bias"], np.ones(3))
        np.testing.assert_array_equal(params["head"]["kernel"], drawn["normal"]["head"]["kernel"])


def test_an_initialiser_that_is_not_a_law_is_refused_and_not_ignored():
    with pytest.raises(TypeError, match="conv/kernel has no law"):
        models.initial_variables(Halves(nn.initializers.lecun_normal()), 0, (8, 8, 3))


@pytest.mark.parametrize("law", [init.he_normal, init.zeros, init.ones])
def test_a_law_is_the_same_in_numpy_and_in_jax(law):
    shape = (3, 3, 64, 256)
    ours, theirs = law.draw(np.random.default_rng(0), shape), law(jax.random.key(0), shape)
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose([ours.mean(), ours.std()], [theirs.mean(), theirs.std()], rtol=0.01, atol=1e-3)
