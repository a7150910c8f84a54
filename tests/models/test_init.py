"""Initial values: drawn by the law that each module declares, addressed by seed and path."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax import models
from resnet_jax.models.layers import init
from resnet_jax.models.layers.conv import padded_conv
from tests.models.nets import flat, images, quick_jit


def initial(seed=0, **fields):
    model = models.build({"depth": 20} | fields, 10)
    return model, models.initial_variables(model, seed, (8, 8, 3))


@pytest.fixture(scope="module")
def deep():
    """Parameters of residual-56."""
    return initial(depth=56)[1]["params"]


def test_the_values_have_the_structure_that_flax_would_give_them():
    model, variables = initial()
    expected = jax.eval_shape(lambda: model.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32), train=False))
    assert jax.tree.structure(variables) == jax.tree.structure(expected)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), expected
    )


def test_kernels_are_he_normal_scales_one_and_biases_zero(deep):
    for name, leaf in flat(deep).items():
        if name.endswith("kernel"):
            deviation = np.sqrt(2 / np.prod(leaf.shape[1 if "rest" in name else 0 : -1]))
            assert abs(leaf.mean()) < 5 * deviation / np.sqrt(leaf.size)
            assert abs(leaf.std() / deviation - 1) < 5 / np.sqrt(2 * leaf.size)
        else:
            assert np.all(leaf == (1 if name.endswith("scale") else 0))


def test_a_gaussian_is_not_truncated(deep):
    kernel = deep["stage3"]["rest"]["conv1"]["kernel"][3]
    assert np.max(np.abs(kernel)) > 3 * np.std(kernel)


def test_a_value_depends_only_on_seed_and_path(deep):
    plain, residual = (flat(initial(**fields)[1]["params"]) for fields in ({"residual": False}, {"shortcut": "B"}))
    for other in (residual, flat(deep)):
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


def test_an_initialiser_that_is_not_a_law_draws_the_values_too():
    uniform, again = (
        models.initial_variables(Halves(nn.initializers.uniform(0.5)), 0, (8, 8, 3))["params"] for _ in range(2)
    )
    kernel = uniform["conv"]["kernel"]
    np.testing.assert_array_equal(kernel, again["conv"]["kernel"])
    assert (kernel.min() >= 0, kernel.max() < 0.5, kernel.max() > 0.4) == (True, True, True)


@pytest.mark.parametrize(
    "law",
    [
        *(init.he_normal, init.zeros, init.ones),
        *(init.gaussian(1.5), init.normal(0.3), init.orthonormal, init.mirrored(init.gaussian(1.0))),
    ],
    ids=["he", "zeros", "ones", "gaussian", "normal", "orthonormal", "mirrored"],
)
def test_a_law_is_the_same_in_numpy_and_in_jax(law):
    shape = (3, 3, 64, 256)
    ours, theirs = law.draw(np.random.default_rng(0), shape), law(jax.random.key(0), shape)
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose([ours.mean(), ours.std()], [theirs.mean(), theirs.std()], rtol=0.01, atol=5e-3)


# Xiao et al. 2018 with q = 1 / depth: variances of weights (times fan-in) and of biases.
CRITICAL_TANH = {
    16: (1.11538, 2.369e-4),
    20: (1.09363, 1.283e-4),
    56: (1.03482, 6.860e-6),
    110: (1.01794, 9.500e-7),
    1000: (1.001997, 1.325e-9),
    10_000: (1.00019997, 1.333e-12),
}


@pytest.mark.parametrize(("depth", "variances"), CRITICAL_TANH.items())
def test_the_critical_line_of_tanh_is_that_of_the_paper(depth, variances):
    weights, biases = init.critical_tanh(1 / depth)
    assert weights == pytest.approx(variances[0], rel=1e-5)
    assert biases == pytest.approx(variances[1], rel=2e-3)
    assert weights == pytest.approx(1 + 2 / depth, rel=0.01)


def tanh_net(depth=20, image=(8, 8, 3), **fields):
    whole = {"depth": depth, "residual": False, "norm": "none", "init": "delta_orthogonal", "activation": "tanh"}
    model = models.build(whole | fields, 10)
    return model, models.initial_variables(model, 0, image)["params"]


def test_delta_orthogonal_kernels_are_isometries_of_the_critical_size():
    _, params = tanh_net(110)
    factor = np.sqrt(CRITICAL_TANH[110][0])
    for kernel in (params["stage1"]["rest"]["conv2"]["kernel"][3], params["stage3"]["block0"]["conv1"]["kernel"]):
        centre = kernel[1, 1]
        np.testing.assert_allclose(centre @ centre.T, factor**2 * np.eye(len(centre)), atol=1e-5)
        assert np.count_nonzero(kernel) == np.count_nonzero(centre)
    biases = np.concatenate([params[f"stage{stage}"]["rest"]["bn1"]["bias"].ravel() for stage in (1, 2, 3)])
    assert np.std(biases) == pytest.approx(np.sqrt(CRITICAL_TANH[110][1]), rel=0.1)
    assert np.std(params["stem"]["conv"]["kernel"]) == pytest.approx(factor / np.sqrt(27), rel=0.1)


def test_a_deep_tanh_net_of_one_width_keeps_the_norms_of_signals_and_gradients():
    """In the middle stage of plain-56, where signals have come to the fixed point; orthonormal filters lose both."""
    x = images(batch=8)
    fall = {}
    model, _ = tanh_net(56)

    @quick_jit
    def gradients_and_outputs(params):
        def loss(params):
            logits, captured = model.apply(
                {"params": params}, x, train=True, mutable=["intermediates"], capture_intermediates=True
            )
            return jnp.mean(logits[:, 0]), captured["intermediates"]["stage2"]["rest"]["bn1"]["__call__"][0]

        return jax.grad(loss, has_aux=True)(params)

    for law in ("delta_orthogonal", "lsuv"):
        gradients, outputs = gradients_and_outputs(tanh_net(56, init=law)[1])
        by_biases = np.linalg.norm(gradients["stage2"]["rest"]["bn1"]["bias"], axis=1)
        signals = np.linalg.norm(np.reshape(outputs, (8, -1)), axis=1)
        fall[law] = [norms.max() / norms.min() for norms in (signals, by_biases)]
        if law == "delta_orthogonal":
            assert np.var(outputs) == pytest.approx(1 / 56, rel=0.2)
    assert max(fall["delta_orthogonal"]) < 1.05
    assert min(fall["lsuv"]) > 1.5


def test_a_kernel_that_narrows_has_no_delta_orthogonal_values():
    with pytest.raises(ValueError, match="cannot narrow from 8 to 4 channels"):
        init.delta_orthogonal(1.0).draw(np.random.default_rng(0), (3, 3, 8, 4))


def test_a_looks_linear_net_is_linear_at_the_start():
    fields = {"depth": 14, "residual": False, "norm": "none", "init": "looks_linear", "activation": "crelu"}
    model = models.build(fields, 10)
    variables = models.initial_variables(model, 0, (8, 8, 3))
    x, y = np.random.default_rng(0).normal(size=(2, 4, 8, 8, 3)).astype(np.float32)
    apply = quick_jit(functools.partial(model.apply, variables, train=False))
    np.testing.assert_allclose(apply(2 * x - 3 * y), 2 * apply(x) - 3 * apply(y), rtol=1e-4, atol=1e-4)
    assert np.std(apply(x)) > 0.01
