"""The contract of a net: every parameter learns, loops compute what unrolled layers do, bfloat16 stays inside."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from resnet_jax import models
from resnet_jax.models.layers import onednn
from tests.models.nets import (
    NETS,
    ORDERS,
    assert_close,
    computed,
    evaluated,
    flat,
    images,
    loss_and_gradients,
    needs_onednn,
    quick_jit,
)

# Another order and another kind at once; each without the other is checked at every commit.
SLOW = {f"{order} {kind}" for kind in ("bottleneck", "single") for order in ORDERS[1:-1]}
LOOPS = [
    ("option A", "unroll"),
    ("option A", "remat"),
    ("option C", "unroll"),
    ("option C", "remat"),
    ("original basic", "unroll"),
    ("original basic", "remat"),
    ("preactivation bottleneck", "unroll"),
    ("preactivation bottleneck", "remat"),
    ("fixup", "remat"),
    ("normalizer_free", "unroll"),
    ("dense", "unroll"),
    ("dense", "remat"),
    ("plain dense bottleneck", "unroll"),
    ("plain dense bottleneck", "remat"),
    ("Inception", "unroll"),
]
SLOW_LOOPS = {"option A", "option C", "original basic"}


def marked(name, *values, slow):
    """Return the arguments of a test of net ``name``; one process has all of them, for it keeps what is computed."""
    marks = [pytest.mark.xdist_group(name), *[pytest.mark.slow] * (name in slow)]
    return pytest.param(name, *values, marks=marks)


every_net = pytest.mark.parametrize("name", [marked(name, slow=SLOW) for name in NETS])


@every_net
def test_a_gradient_reaches_every_parameter(name):
    *_, (_, gradients) = computed(name)
    assert [path for path, leaf in flat(gradients).items() if not np.any(leaf)] == []
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize(("name", "setting"), [marked(*loop, slow=SLOW_LOOPS) for loop in LOOPS])
def test_unrolled_and_rematerialised_loops_change_nothing_but_rounding(name, setting):
    model, variables, x, looped = computed(name)
    assert_close(looped, loss_and_gradients(model.clone(**{setting: True}), variables, x))
    if "dense" in name and setting == "unroll":  # Its loops have a form for evaluation.
        moved = variables | looped[0][1]
        assert_close(evaluated(model, moved, x), evaluated(model.clone(unroll=True), moved, x))


@pytest.mark.parametrize("name", [marked(name, slow=SLOW) for name in NETS if "plain" not in name])
def test_bfloat16_computes_in_bfloat16_but_keeps_statistics_and_logits_in_float32(name):
    x = images((16, 16, 3) if "ImageNet" in name else (8, 8, 3))
    model = NETS[name]().clone(dtype=jnp.bfloat16)
    collections = ["batch_stats", "intermediates"]
    compute = functools.partial(model.apply, train=True, mutable=collections, capture_intermediates=True)
    logits, updates = jax.eval_shape(compute, models.template(model, x.shape[1:]), x)
    assert {leaf.dtype for leaf in jax.tree.leaves((logits, updates.get("batch_stats")))} == {jnp.dtype("float32")}
    layers = traverse_util.flatten_dict(updates["intermediates"])
    assert {leaf[0].dtype for path, leaf in layers.items() if len(path) > 1} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("name", ["original basic", "dense bottleneck", "Inception"])
def test_logits_in_bfloat16_are_near_those_in_float32(name):
    model, x = NETS[name](), images()
    variables = models.initial_variables(model, 0, x.shape[1:])
    logits, exact = (
        quick_jit(lambda v, m=m: m.apply(v, x, train=True, mutable=["batch_stats"])[0])(variables)
        for m in (model.clone(dtype=jnp.bfloat16), model)
    )
    assert 0 < np.max(np.abs(logits - exact)) < np.std(exact)


@needs_onednn
@pytest.mark.parametrize("name", [marked(name, slow=NETS.keys() - {"original basic"}) for name in NETS])
def test_by_onednn_loss_gradients_and_their_derivatives_are_those_by_lax(name):
    model, variables, x, ((loss, _), gradients) = computed(name)

    def along_gradients(variables):
        def gradient(params):
            return loss_and_gradients(model, variables | {"params": params}, x, jit=lambda compute: compute)[1]

        return jax.jvp(gradient, (variables["params"],), (gradients,))[1]

    expected = quick_jit(along_gradients)(variables)
    with onednn.computed_by("onednn"):
        assert onednn.TARGET in jax.jit(along_gradients).lower(variables).as_text()
        (found, _), found_gradients = loss_and_gradients(model, variables, x)
        curvature = quick_jit(lambda variables: along_gradients(variables))(variables)
    assert found == pytest.approx(loss, rel=1e-5)
    assert_close(found_gradients, gradients)
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    assert_close(curvature, expected, rtol=1e-2, atol=1e-3 * scale)
