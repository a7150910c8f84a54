"""Scaled branches, against nets written from the formulas of their papers; combinations, titles and fields."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.fields import BranchScalingName
from resnet_jax.models import ConvBlock
from resnet_jax.models.gates import DELETED, RESIDUAL, Gate
from resnet_jax.models.layers.parametrization import RELU_GAIN
from tests.models.nets import (
    assert_close,
    drawn,
    evaluated,
    float64_logits,
    images,
    loss_and_gradients,
    quick_jit,
    small_net,
)
from tests.models.reference import batch_norm, conv, head, option_a, relu, stages, standardized

IMAGE = (8, 8, 3)
SCALINGS = {
    "fixup": {},
    "skipinit": {},
    "rezero": {},
    "normalizer_free": {"shortcut": "B"},
}


def net(scaling, depth=14, **fields):
    return models.build({"depth": depth, "branch_scaling": scaling} | SCALINGS[scaling] | fields, 10)


def fixup(params, x):
    """Zhang et al. 2019, figure 1 right; option A."""
    x = relu(conv(x, params["stem"]["conv"]["kernel"]) + params["stem"]["bn"]["bias"])
    for block, stride, _ in stages(params, 2):
        y = conv(x + block["bias1a"], block["conv1"]["kernel"], stride)
        y = relu(y + block["bn1"]["bias"]) + block["bias2a"]
        y = block["scale"] * conv(y, block["conv2"]["kernel"]) + block["bn2"]["bias"]
        changes = y.shape != x.shape
        x = relu(option_a(x + block["bias1a"] if changes else x, y.shape[-1], stride) + y)
    return x + params["bn"]["bias"]


def skipinit(params, x):
    """De and Smith 2020, section 3: pre-activation, biases in all convolutions."""
    x = conv(x, params["stem"]["conv"]["kernel"]) + params["stem"]["bn"]["bias"]
    for block, stride, _ in stages(params, 2):
        y = conv(relu(x), block["conv1"]["kernel"], stride) + block["bn1"]["bias"]
        y = conv(relu(y), block["conv2"]["kernel"]) + block["bn2"]["bias"]
        x = option_a(x, y.shape[-1], stride) + block["gain"] * y
    return relu(x)


def rezero(params, x):
    """Bachlechner et al. 2020: shortcut + alpha * relu(BN conv relu BN conv x)."""
    x = relu(batch_norm(conv(x, params["stem"]["conv"]["kernel"]), params["stem"]["bn"]))
    for block, stride, _ in stages(params, 2):
        y = relu(batch_norm(conv(x, block["conv1"]["kernel"], stride), block["bn1"]))
        y = relu(batch_norm(conv(y, block["conv2"]["kernel"]), block["bn2"]))
        x = option_a(x, y.shape[-1], stride) + block["gain"] * y
    return x


def normalizer_free(params, x):
    """Brock et al. 2021, section 3: x + 0.2 * f(x / beta); where shapes change the shortcut sees the same as f."""
    x = conv(x, standardized(params["stem"]["conv"], 1.0)) + params["stem"]["bn"]["bias"]
    variance = 1.0
    for block, stride, index in stages(params, 2):
        seen = relu(x / np.sqrt(variance))
        y = conv(seen, standardized(block["conv1"], RELU_GAIN), stride) + block["bn1"]["bias"]
        y = conv(relu(y), standardized(block["conv2"], RELU_GAIN)) + block["bn2"]["bias"]
        if "shortcut" in block:
            shortcut = block["shortcut"]
            x = conv(seen, standardized(shortcut["conv"], RELU_GAIN), stride) + shortcut["bn"]["bias"]
        x = x + 0.2 * block["gain"] * y
        variance = (1.0 if index == 0 else variance) + 0.04
    return relu(x)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_net_computes_the_formulas_of_its_paper(scaling):
    x = np.float64(images())
    params, logits = float64_logits({"depth": 14, "branch_scaling": scaling} | SCALINGS[scaling], x)
    expected = head(params, globals()[scaling](params, x))
    np.testing.assert_allclose(logits, expected, rtol=1e-8, atol=1e-10)
    assert np.std(expected) > 0.01


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        ({"depth": 110, "branch_scaling": "fixup"}, 1_720_138),  # The authors' code.
        ({"depth": 56, "branch_scaling": "rezero"}, 853_045),  # The authors' code.
        # ResNet-110 without norms, with a bias for each of 109 convolutions and 54 scalars.
        ({"depth": 110, "branch_scaling": "skipinit"}, 1_727_962 - 4_048 + 54),
    ],
)
def test_nets_have_the_parameters_of_their_authors_code(fields, parameters):
    assert models.totals(models.describe(models.build(fields, 10), (32, 32, 3)))[0] == parameters


def test_nf_resnet_50_has_the_parameters_of_timm_and_a_scalar_for_each_branch():
    fields = {"family": "imagenet", "depth": 50, "shortcut": "B", "branch_scaling": "normalizer_free"}
    assert models.totals(models.describe(models.build(fields, 1000), (224, 224, 3)))[0] == 25_557_032 + 16


def output_function(model):
    """Return a compiled function of variables and images that returns the outputs of stem and blocks, by name."""

    def wanted(module, method):
        return method == "__call__" and (isinstance(module, ConvBlock) or module.name == "stem")

    apply = functools.partial(model.apply, train=False, mutable=["intermediates"], capture_intermediates=wanted)
    compiled = quick_jit(apply)

    def outputs(variables, x):
        _, found = compiled(variables, x)
        found = jax.tree.map(lambda each: each[0], found["intermediates"], is_leaf=lambda each: isinstance(each, tuple))
        return {"/".join(path[:-1]): leaf for path, leaf in models.unstack(found).items()}

    return outputs


@pytest.mark.parametrize("scaling", ["fixup", "skipinit", "rezero"])
def test_at_the_start_every_block_is_its_shortcut(scaling):
    model = net(scaling)
    outputs = output_function(model)(models.initial_variables(model, 0, IMAGE), images())
    x = np.asarray(outputs.pop("stem"))
    assert len(outputs) == 6
    for name in sorted(outputs):
        width = 8 * 2 ** int(name[5])
        x = option_a(x, width, 1 if x.shape[-1] == width else 2)
        np.testing.assert_array_equal(outputs[name], x)


def test_fixup_scales_the_first_convolutions_of_he_by_the_number_of_branches():
    start, usual = (
        models.initial_variables(model, 0, IMAGE)["params"] for model in (net("fixup"), models.build({"depth": 14}, 10))
    )
    for stage in ("stage1", "stage3"):
        first, expected = (params[stage]["rest"]["conv1"]["kernel"] for params in (start, usual))
        np.testing.assert_allclose(first, 6**-0.5 * expected, rtol=1e-6)  # Six branches of two layers.
        assert not np.any(start[stage]["rest"]["conv2"]["kernel"])
    assert not np.any(start["head"]["kernel"])
    deep = models.build({"family": "imagenet", "depth": 50, "branch_scaling": "fixup", "shortcut": "B"}, 10)
    kernel = models.initial_variables(deep, 0, (32, 32, 3))["params"]["stage2"]["rest"]["conv2"]["kernel"]
    assert np.std(kernel) == pytest.approx(16**-0.25 * np.sqrt(2 / (9 * 128)), rel=0.02)  # 16 branches of three.


def test_the_variance_of_a_normalizer_free_net_is_the_predicted_one():
    """With all learned scalars at 1; a net without the division by beta would have other branches."""
    model = models.build({"depth": 32, "branch_scaling": "normalizer_free", "shortcut": "B", "widening": 2.0}, 10)
    variables = models.initial_variables(model, 0, IMAGE)
    variables["params"] = jax.tree.map_with_path(
        lambda path, leaf: np.ones_like(leaf) if path[-1].key == "gain" else leaf, variables["params"]
    )
    x = np.random.default_rng(0).normal(size=(4, 48, 48, 3)).astype(np.float32)  # Large: zero padding takes variance.
    outputs = output_function(model)(variables, x)
    expected = [1 + 0.04 * (index + 1) for index in range(5)] * 3
    found = [np.var(outputs[name]) for name in sorted(outputs) if name != "stem"]
    np.testing.assert_allclose(found, expected, rtol=0.15)
    np.testing.assert_allclose(np.power(model.numbers, -2.0), [1, *expected[:-1]])


@pytest.mark.parametrize("scaling", ["skipinit", "rezero"])
def test_open_gates_change_nothing(scaling):
    model = small_net((2, 1), branch_scaling=scaling)
    variables, x = drawn(model), images()
    gated = variables | {"gates": models.gate_blocks(model, IMAGE, RESIDUAL)}
    assert_close(*(loss_and_gradients(model, each, x) for each in (variables, gated)), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_bfloat16_and_stochastic_depth_go_with_scaled_branches(scaling):
    model = net(scaling, depth=8, survival=0.5)
    variables, x = drawn(model), images()
    options = {"train": True, "mutable": ["batch_stats", "intermediates"], "capture_intermediates": True}
    apply = functools.partial(model.clone(dtype=jnp.bfloat16).apply, **options)
    logits, found = jax.eval_shape(lambda: apply(variables, x, rngs={"survival": jax.random.key(0)}))
    layers = traverse_util.flatten_dict(found["intermediates"])
    types = {leaf[0].dtype for path, leaf in layers.items() if len(path) > 1 and path[-1] == "__call__"}
    assert (logits.dtype, types) == (jnp.float32, {jnp.dtype("bfloat16")})
    gates = {f"stage{stage}/block0": Gate(1, 1, survival, 1) for stage, survival in enumerate((5 / 6, 2 / 3, 1 / 2), 1)}
    static = evaluated(net(scaling, depth=8), variables | {"gates": models.gate_blocks(model, IMAGE, gates)}, x)
    np.testing.assert_allclose(evaluated(model, variables, x), static, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_gates_scale_shortcut_and_branch(scaling):
    """The block's output is linear in both, but for Fixup's last ReLU."""
    model = net(scaling, depth=8)
    variables, outputs = drawn(model), output_function(model)

    def last(gate):
        gates = {f"stage{stage}/block0": gate if stage == 3 else RESIDUAL for stage in (1, 2, 3)}
        gated = variables | {"gates": models.gate_blocks(model, IMAGE, gates)}
        return np.asarray(outputs(gated, images())["stage3/block0"])

    shortcut, branch = last(DELETED), last(Gate(0, 0, 1, 1))
    both = last(Gate(0.5, 1, 2, 1))
    if scaling == "fixup":
        assert np.any(shortcut)
        np.testing.assert_array_equal(both >= 0, True)
        return
    np.testing.assert_allclose(both, 0.5 * shortcut + 2 * branch, rtol=1e-4, atol=1e-5)


def test_the_twins_of_a_scaled_net_share_its_kernels():
    plain = models.initial_variables(models.build({"depth": 14, "residual": False}, 10), 0, IMAGE)["params"]
    for scaling in ("skipinit", "rezero", "normalizer_free"):
        scaled = models.initial_variables(net(scaling), 0, IMAGE)["params"]
        for stage in ("stage1", "stage3"):
            for layer in ("conv1", "conv2"):
                kernels = (params[stage]["rest"][layer]["kernel"] for params in (plain, scaled))
                np.testing.assert_array_equal(*kernels)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"branch_scaling": "fixup", "residual": False}, r"'fixup' needs config\.model\.residual=True, not False\."),
        ({"branch_scaling": "rezero", "init": "lsuv"}, r"'rezero' needs config\.model\.init='he', not 'lsuv'\."),
        ({"branch_scaling": "rezero", "activation": "swish"}, r"needs config\.model\.activation='relu', not 'swish'\."),
        ({"branch_scaling": "skipinit", "parametrization": "dirac"}, r"parametrization='free', not 'dirac'\."),
        ({"branch_scaling": "fixup", "block": "single"}, r"block='basic' or 'bottleneck', not 'single'\."),
        ({"branch_scaling": "rezero", "shortcut": "dropout"}, r"shortcut='A' or .* or 'conv', not 'dropout'\."),
        ({"branch_scaling": "rezero", "block": "repvgg"}, r"needs config\.model\.block='basic' or .*not 'repvgg'"),
        ({"branch_scaling": "normalizer_free"}, r"needs config\.model\.shortcut='B', not 'A'\."),
        ({"block": "repvgg", "norm": "none"}, r"block='repvgg' needs config\.model\.norm='batch', not 'none'\."),
        ({"block": "repvgg", "order": "preactivation"}, r"block='repvgg' needs config\.model\.order='original'"),
        ({"block": "repvgg", "activation": "gelu"}, r"block='repvgg' needs config\.model\.activation='relu'"),
        ({"activation": "crelu"}, r"activation='crelu' needs config\.model\.norm='none', not 'batch'\."),
        (
            {"activation": "crelu", "norm": "none"},
            r"activation='crelu' needs config\.model\.residual=False, not True\.",
        ),
        (
            {"activation": "gelu", "parametrization": "standardized"},
            r"parametrization='free' or 'dirac', not 'standard",
        ),
        (
            {"init": "delta_orthogonal", "norm": "none", "residual": False},
            r"'delta_orthogonal' needs config\.model\.activation='tanh', not 'relu'\.",
        ),
        (
            {"init": "looks_linear", "norm": "none", "residual": False},
            r"'looks_linear' needs config\.model\.activation='crelu', not 'relu'\.",
        ),
        (
            {"init": "looks_linear", "activation": "crelu", "norm": "none", "residual": False}
            | {"family": "imagenet", "depth": 18},
            r"init='looks_linear' needs config\.model\.family='cifar', not 'imagenet'\.",
        ),
        ({"init": "lsuv"}, r"init='lsuv' needs config\.model\.norm='none', not 'batch'\."),
        ({"init": "lsuv", "norm": "none", "parametrization": "dirac"}, r"config\.model\.parametrization='free', not"),
        ({"init": "lsuv", "norm": "none", "block": "bottleneck", "depth": 20}, r"block='basic' or 'single', not 'b"),
    ],
    ids=str,
)
def test_remedies_that_do_not_go_together_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        models.build({"depth": 20} | wrong, 10)


@pytest.mark.parametrize(
    ("fields", "title", "without"),
    [
        ({"branch_scaling": "fixup"}, "fixup residual-20", {"order", "norm"}),
        ({"branch_scaling": "skipinit"}, "skipinit residual-20", {"order", "norm"}),
        ({"branch_scaling": "rezero"}, "rezero residual-20", {"order"}),
        ({"branch_scaling": "normalizer_free", "shortcut": "B"}, "normalizer-free residual-20", {"order", "norm"}),
        ({"parametrization": "dirac", "residual": False}, "dirac plain-20", {"shortcut"}),
        ({"parametrization": "standardized", "residual": False}, "standardized plain-20", {"shortcut"}),
        (
            {"init": "delta_orthogonal", "activation": "tanh", "residual": False, "norm": "none"},
            "delta-orthogonal tanh plain-20",
            {"shortcut"},
        ),
        ({"init": "lsuv", "residual": False, "norm": "none"}, "LSUV plain-20", {"shortcut"}),
        ({"block": "repvgg"}, "repvgg residual-20", {"shortcut"}),
        ({"family": "wide", "depth": 16, "branch_scaling": "skipinit"}, "skipinit WRN-16-1", {"order", "norm"}),
    ],
)
def test_a_remedy_is_in_the_title_and_names_the_fields_it_reads(fields, title, without):
    assert models.title(fields) == title
    read = set(models.fields_read(fields))
    assert {"branch_scaling", "parametrization", "init", "activation"} <= read
    assert not read & without
    models.template(models.build(fields, 10), (32, 32, 3))


@pytest.mark.parametrize(
    ("fields", "title"),
    [
        ({"activation": "swish"}, "swish residual-20"),
        ({"activation": "gelu", "residual": False}, "GELU plain-20"),
        ({"activation": "tanh", "norm": "group", "order": "preactivation"}, "tanh preact residual-20"),
    ],
)
def test_the_activation_of_a_net_with_norms_is_a_choice_and_in_the_title(fields, title):
    assert models.title(fields) == title
    model = models.build(fields, 10)
    variables = drawn(model)
    found = evaluated(model, variables, images())
    usual = evaluated(models.build(fields | {"activation": "relu"}, 10), variables, images())
    assert np.all(np.isfinite(found))
    assert np.max(np.abs(found - usual)) > 0.01


def swish(x):
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize("order", ["original", "relu_preactivation", "preactivation"])
def test_a_net_of_another_activation_computes_the_formula_of_its_order(order):
    x = np.float64(images())
    params, logits = float64_logits({"depth": 14, "activation": "swish", "order": order}, x)
    x = swish(batch_norm(conv(x, params["stem"]["conv"]["kernel"]), params["stem"]["bn"]))
    for block, stride, index in stages(params, 2):
        is_first = stride == 1 and index == 0  # The stem has activated its input.
        match order:
            case "original":
                y = swish(batch_norm(conv(x, block["conv1"]["kernel"], stride), block["bn1"]))
                y = batch_norm(conv(y, block["conv2"]["kernel"]), block["bn2"])
            case "relu_preactivation":
                y = conv(x if is_first else swish(x), block["conv1"]["kernel"], stride)
                y = batch_norm(conv(swish(batch_norm(y, block["bn1"])), block["conv2"]["kernel"]), block["bn2"])
            case "preactivation":
                y = conv(x if is_first else swish(batch_norm(x, block["bn1"])), block["conv1"]["kernel"], stride)
                y = conv(swish(batch_norm(y, block["bn2"])), block["conv2"]["kernel"])
        x = option_a(x, y.shape[-1], stride) + y
        x = swish(x) if order == "original" else x
    if order != "original":
        x = swish(batch_norm(x, params["bn"]) if order == "preactivation" else x)
    np.testing.assert_allclose(logits, head(params, x), rtol=1e-8, atol=1e-10)


def test_every_scaling_is_tested_here():
    assert {*BranchScalingName} == {"none", *SCALINGS}
