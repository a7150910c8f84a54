"""The Inception nets, against published counts, timm, and the twins and gates of one another."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.interop.names import SCHEME_OF_FAMILY
from resnet_jax.models import gates
from resnet_jax.models.gates import DELETED, PLAIN, RESIDUAL
from resnet_jax.models.layers.conv import padded_conv
from resnet_jax.models.layers.norm import BatchNorm, Bias
from resnet_jax.models.stage import Stage
from resnet_jax.models.zoo import inception
from resnet_jax.models.zoo.inception import IMAGENET_NETS, InceptionBlock
from tests.models.nets import assert_close, evaluated, flat, images, loss_and_gradients, quick_jit

# Depth, and with 1000 classes and 299x299 pixels parameters and multiply-adds, counted in nets built in PyTorch; timm's
# v4 and released v2 have the same parameters. slim's own count of v2 has no scales of norms: 30,272 less.
IMAGENET_COUNTS = {
    "inception_v4": (76, 42_679_816, 12.25e9),
    "inception_resnet_v1": (93, 22_756_328, 6.21e9),
    "inception_resnet_v2": (176, 55_843_464, 13.16e9),
    "inception_resnet_v2_paper": (96, 32_433_928, 9.26e9),
}
# n, and with ten classes and 32x32 pixels parameters of w = 16 and 32 and millions of multiply-adds, from PyTorch.
SMALL_COUNTS = [
    (1, (36_182, 140_914), (5.4, 20.8)),
    (3, (89_550, 351_810), (13.0, 51.3)),
    (5, (142_918, 562_706), (20.7, 81.7)),
    (9, (249_654, 984_498), (35.9, 142.7)),
]
IMAGE, SMALLEST = (8, 8, 3), (75, 75, 3)


def build(family, depth, classes=10, **fields):
    fields = {"residual": family != "inception_v4"} | fields
    return models.build({"family": family, "depth": depth, **fields}, classes)


@functools.cache
def smallest(family):
    """Return the layers of the ImageNet net of ``family`` for the smallest images."""
    return models.walk(build(family, IMAGENET_COUNTS[family][0]), SMALLEST)


# One stage.
TINY = inception.Architecture(
    stem=(inception.Conv(8, 3),),
    stages=(inception.Blocks(2, ((inception.Conv(4),), (inception.Conv(2), inception.Conv(4, 3))), up=8),),
    up_norm="batch",
)


def net(residual=True, **settings):
    return inception.Inception(TINY, 10, residual, **settings)


@pytest.fixture(scope="module")
def variables():
    """Parameters and initial values of the tiny net, the same in all its twins."""
    return models.initial_variables(net(), 0, IMAGE)


def gated(model, variables, gate):
    return variables | {"gates": gates.gate_blocks(model, IMAGE, gate)}


@pytest.mark.parametrize("family", IMAGENET_NETS)
def test_imagenet_nets_have_the_published_parameters_and_multiply_adds(family):
    depth, parameters, multiply_adds = IMAGENET_COUNTS[family]
    counted = models.totals(models.describe(build(family, depth, 1000), (299, 299, 3)))
    assert counted[0] == parameters
    assert counted[1] == pytest.approx(multiply_adds, abs=0.005e9)


@pytest.mark.parametrize(("n", "parameters", "millions"), SMALL_COUNTS)
def test_small_nets_have_the_expected_parameters_and_multiply_adds(n, parameters, millions):
    for widening, parameters_of_width, millions_of_width in zip((1, 2), parameters, millions, strict=True):
        model = build("inception", 12 * n + 8, widening=widening)
        counted = models.totals(models.describe(model, (32, 32, 3)))
        assert counted[0] == parameters_of_width
        assert counted[1] / 1e6 == pytest.approx(millions_of_width, abs=0.05)


def test_the_parts_of_inception_v4_have_the_sizes_of_figure_9():
    parts = models.describe(build("inception_v4", 76, 1000), (299, 299, 3))
    assert [(part.name, part.output_shape, part.blocks) for part in parts] == [
        ("stem", (35, 35, 384), 0),
        ("stage1", (35, 35, 384), 4),
        ("reduction1", (17, 17, 1024), 0),
        ("stage2", (17, 17, 1024), 7),
        ("reduction2", (8, 8, 1536), 0),
        ("stage3", (8, 8, 1536), 3),
        ("head", (1000,), 0),
    ]


@pytest.mark.parametrize(
    ("family", "depth", "shape"),
    [
        *(
            pytest.param(family, IMAGENET_COUNTS[family][0], SMALLEST, marks=pytest.mark.slow)
            for family in IMAGENET_NETS
        ),
        ("inception", 44, IMAGE),
    ],
)
def test_the_depth_is_the_number_of_layers_on_the_longest_path(family, depth, shape):
    """Counted by the plain net itself: each weighted layer adds 1 to the largest number that it sees."""

    def count(call, args, kwargs, context):
        module = context.module
        if isinstance(module, (nn.Conv, nn.Dense)) and context.method_name == "__call__":
            return jnp.full_like(jax.eval_shape(lambda: call(*args, **kwargs)), args[0].max() + 1)
        return args[0] if isinstance(module, (BatchNorm, Bias)) else call(*args, **kwargs)

    model = build(family, depth, residual=False)
    variables = models.template(model, shape)

    @quick_jit
    def counted(x):
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), variables)
        with nn.intercept_methods(count):
            return model.apply(zeros, x, train=False)

    assert np.all(counted(np.zeros((1, *shape), np.float32)) == depth)


@pytest.mark.parametrize("family", IMAGENET_NETS)
def test_the_smallest_image_leaves_one_pixel_and_a_smaller_one_is_refused(family):
    assert smallest(family)[-1].output_shape == (10,)
    with pytest.raises(UserError, match=r"74x75 pixels are too small.*need 75x75.*config\.data\.image_size"):
        models.template(build(family, IMAGENET_COUNTS[family][0]), (74, 75, 3))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"family": "inception", "depth": 50}, r"depth=50 is not 12n\+8.*the nearest depths are 44 and 56"),
        ({"family": "inception", "depth": 8}, r"the smallest depth is 20"),
        ({"family": "inception", "depth": 20, "widening": 1.25}, r"widening=1\.25.*multiple of 0\.5"),
        ({"family": "inception", "depth": 20, "residual": False, "survival": 0.5}, r"survival=0\.5 needs shortcuts"),
        ({"family": "inception_v4", "depth": 20, "residual": False}, r"depth=20: Inception-v4 has 76 layers"),
        ({"family": "inception_v4", "depth": 76}, r"residual=True: Inception-v4 has no shortcuts.*residual=False"),
        ({"family": "inception_resnet_v1", "depth": 76}, r"Inception-ResNet-v1 has 93 layers"),
        ({"family": "inception_resnet_v2", "depth": 164}, r"Inception-ResNet-v2 has 176 layers"),
        ({"family": "inception_resnet_v2_paper", "depth": 176}, r"Inception-ResNet-v2 of the paper has 96 layers"),
        ({"family": "inception_resnet_v1", "depth": 93, "widening": 2.0}, r"widening=2: .* give 1\."),
    ],
)
def test_a_net_that_does_not_exist_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        models.build(fields, 10)


def test_titles_and_the_fields_that_count():
    def title(**fields):
        return models.title(fields), models.series_title(fields)

    assert title(family="inception", depth=44, residual=False) == ("Inception plain-44", "Inception plain")
    assert title(family="inception", depth=44, widening=2.0) == ("Inception residual-44-2", "Inception residual-n-2")
    assert title(family="inception_v4", depth=76, residual=False)[0] == "Inception-v4"
    assert title(family="inception_resnet_v2", depth=176)[0] == "Inception-ResNet-v2"
    assert title(family="inception_resnet_v2", depth=176, residual=False)[0] == "plain Inception-ResNet-v2"
    assert "residual_scale" in models.fields_read({"family": "inception"})
    assert "residual_scale" not in models.fields_read({"family": "inception", "residual": False})
    assert "widening" not in models.fields_read({"family": "inception_resnet_v1", "depth": 93})


@pytest.mark.parametrize("family", ["inception", "inception_resnet_v2"])
def test_twins_share_the_tree(family):
    depth, shape = (20, IMAGE) if family == "inception" else (176, SMALLEST)
    plain = models.walk(build(family, depth, residual=False), shape)
    assert plain == (models.walk(build(family, depth), IMAGE) if family == "inception" else smallest(family))


def test_twins_share_their_initial_values(variables):
    jax.tree.map(np.testing.assert_array_equal, variables, models.initial_variables(net(residual=False), 0, IMAGE))


@pytest.mark.parametrize("residual", [True, False], ids=["residual", "plain"])
def test_gates_make_the_twins_of_one_another_to_the_bit(variables, residual):
    # A compiler may contract the products and sums of two programs in two ways, so bits are compared without one.
    with jax.disable_jit():
        x = images(batch=2)
        static = net(residual).apply(variables, x, train=False)
        for model in (net(residual=True), net(residual=False)):
            found = model.apply(gated(model, variables, RESIDUAL if residual else PLAIN), x, train=False)
            np.testing.assert_array_equal(static, found)


def test_gates_turn_the_gradients_of_one_twin_into_those_of_the_other(variables):
    plain = loss_and_gradients(net(residual=False), variables, images())
    assert_close(plain, loss_and_gradients(net(), gated(net(), variables, PLAIN), images()))


def block(scale=1.0, residual=True, is_activated=True, train=False, **settings):
    """Return a block that is called with only its input."""
    return InceptionBlock(
        branches=((inception.Conv(2),), (inception.Conv(2), inception.Conv(4, (1, 3)))),
        up=6,
        scale=scale,
        is_activated=is_activated,
        residual=residual,
        train=train,
        conv=padded_conv,
        norm=functools.partial(BatchNorm, train=train),
        up_norm=Bias,
        **{"stride": 1, **settings},
    )


def test_a_block_is_the_equation_of_the_paper():
    x = images((4, 4, 6))
    variables = block().init(jax.random.key(0), x)
    up = block(residual=False, is_activated=False).apply(variables, x)
    assert np.any(up < 0)
    for scale in (1.0, 0.1, 1e-3):
        np.testing.assert_allclose(block(scale).apply(variables, x), np.maximum(x + scale * up, 0), atol=1e-6)
    np.testing.assert_allclose(block(0.5, is_activated=False).apply(variables, x), x + 0.5 * up, atol=1e-6)
    # The plain block has no scale.
    np.testing.assert_array_equal(block(0.1, residual=False).apply(variables, x), np.maximum(up, 0))


def test_dropped_blocks_pass_their_shortcuts_on_through_their_gates():
    """Two blocks in training, both dropped by stochastic depth: a^n times the input, and alpha^n times its gradient."""
    x = np.abs(images((4, 4, 6)))
    stage = Stage(2, stride=1, block=functools.partial(block, train=True), alike=True, survival=(1e-30,) * 2)
    variables = quick_jit(stage.init)(jax.random.key(0), x)

    @quick_jit
    def output_and_gradient(gate):
        def total(x):
            gated = {**variables, "gates": {"blocks": {"gate": gate}}}
            y, _ = stage.apply(gated, x, rngs={"survival": jax.random.key(0)}, mutable=["batch_stats"])
            return jnp.sum(y), y

        return jax.grad(total, has_aux=True)(x)

    for a, alpha in ((1.0, 0.0), (1.0, 1.0), (0.5, 0.25)):
        gradient, y = output_and_gradient(np.float32([[a, alpha, 1, 1]] * 2))
        np.testing.assert_allclose(y, a**2 * x, rtol=1e-6)
        np.testing.assert_allclose(gradient, np.full_like(x, alpha**2), rtol=1e-6)


def test_scales_are_those_of_the_released_nets_times_the_field():
    seen = []

    def watch(call, args, kwargs, context):
        if isinstance(context.module, InceptionBlock) and context.method_name == "__call__":
            seen.append((context.module.scale, context.module.is_activated))
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):
        models.template(build("inception_resnet_v2", 176, residual_scale=0.5), SMALLEST)
    assert sorted(set(seen)) == [(0.05, True), (0.085, True), (0.1, True), (0.5, False)]


def test_at_a_small_scale_a_stage_is_the_identity(variables):
    def stage(model, variables):
        apply = functools.partial(model.apply, train=False, mutable=["intermediates"], capture_intermediates=True)
        _, captured = quick_jit(apply)(variables, images())
        return captured["intermediates"]["stage1"]["__call__"][0]

    deleted = stage(net(), gated(net(), variables, DELETED))
    np.testing.assert_allclose(stage(net(residual_scale=1e-6), variables), deleted, atol=1e-4)
    assert np.abs(stage(net(), variables) - deleted).max() > 0.1


def test_stochastic_depth_drops_branches_and_is_scaled_in_evaluation(variables):
    rngs = {"survival": jax.random.key(0)}
    _, gradients = loss_and_gradients(net(survival=(1e-6,) * 2), variables, images(), rngs=rngs)
    for name, leaf in flat(gradients).items():
        assert np.any(leaf) == ("blocks" not in name), name
    half, scaled = (
        evaluated(model, variables, images()) for model in (net(survival=(0.5,) * 2), net(residual_scale=0.5))
    )
    np.testing.assert_allclose(half, scaled, rtol=1e-4, atol=1e-5)


def test_dropout_before_the_head_zeroes_features_only_in_training(variables):
    model = net(residual=False, dropout_rate=0.9)
    found, without = (evaluated(each, variables, images()) for each in (model, net(residual=False)))
    np.testing.assert_allclose(found, without, rtol=1e-5, atol=1e-6)

    @quick_jit
    def trained(key):
        return model.apply(variables, images(), train=True, mutable=["batch_stats"], rngs={"dropout": key})[0]

    assert np.any(trained(jax.random.key(0)) != trained(jax.random.key(1)))


def test_average_pooling_at_the_border_counts_the_pixels_there_are():
    x = images((4, 4, 2)).astype(np.float64)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    np.testing.assert_allclose(inception.average_pool(x.astype(np.float32)), np.nanmean(windows, (-2, -1)), atol=1e-6)


TIMM = ["inception_v4", "inception_resnet_v2"]


def timm_net(family, device):
    timm = pytest.importorskip("timm", reason="the comparison needs timm; make .venv/peer installs it")
    torch = pytest.importorskip("torch")
    with torch.device(device):
        return timm.create_model(family, pretrained=False, num_classes=10).eval()


def tensor_name(family, path):
    return SCHEME_OF_FAMILY[family].tensor_name(path)


@pytest.mark.parametrize("family", TIMM)
def test_every_variable_has_the_name_and_shape_of_a_tensor_of_timm(family):
    state = timm_net(family, "meta").state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith("tracked")}
    leaves = models.unstack(models.template(build(family, IMAGENET_COUNTS[family][0]), SMALLEST))
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    named = {tensor_name(family, path): np.transpose(leaf, axes[leaf.ndim]).shape for path, leaf in leaves.items()}
    assert len(named) == len(leaves)
    assert named == expected


@pytest.mark.slow
@pytest.mark.parametrize("family", TIMM)
def test_logits_are_those_of_timm(family):
    theirs = timm_net(family, "cpu")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    for name, tensor in theirs.named_buffers():
        if name.endswith("running_mean"):
            torch.nn.init.normal_(tensor, std=0.1)
        elif name.endswith("running_var"):
            torch.nn.init.uniform_(tensor, 0.01, 0.5)
    shape, state = (96, 96, 3), theirs.state_dict()
    model = build(family, IMAGENET_COUNTS[family][0])
    like = models.template(model, shape)
    axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
    leaves = {path: state[tensor_name(family, path)].numpy() for path in models.unstack(like)}
    variables = models.stack({path: leaf.transpose(axes[leaf.ndim]) for path, leaf in leaves.items()}, like)
    x = images(shape, batch=2)
    ours = evaluated(model, variables, x)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    assert np.abs(expected[0] - expected[1]).max() > 1e-2 * np.abs(expected).max()
    np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())
