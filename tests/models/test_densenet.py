"""DenseNets, against published counts, torchvision, and what dense paths mean."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from ml_collections import ConfigDict

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.interop.densenet import layer_name
from resnet_jax.models.zoo import densenet
from resnet_jax.models.zoo.densenet import DenseNet

SMALL, LARGE = (32, 32, 3), (224, 224, 3)
IMAGE = (8, 8, 3)
# The kinds of nets.
KINDS = {
    "dense": {},
    "plain": {"residual": False},
    "bottleneck": {"bottleneck": True, "compression": 0.5},
    "plain bottleneck": {"bottleneck": True, "compression": 0.5, "residual": False},
}


def build(family, depth, growth, compression, classes=10, **fields):
    model = {"family": family, "depth": depth, "growth": growth, "compression": compression, **fields}
    return models.build(ConfigDict(model), classes)


@pytest.fixture(autouse=True)
def loops_of_two(monkeypatch):
    """Let a block of three layers take two loops, the second of one layer: as much to check, less to compile."""
    monkeypatch.setattr(densenet, "LOOPED", 2)


def make_small(kind="dense", **settings):
    """Return a net of two dense blocks, of three layers and one, its initial variables and images for it."""
    fields = {"growth": 3, "compression": 1.0, "bottleneck": False} | KINDS[kind] | settings
    model = DenseNet((3, 1), 4, num_classes=5, **fields)
    images = np.random.default_rng(0).normal(size=(6, *IMAGE)).astype(np.float32)
    return model, models.initial_variables(model, 0, IMAGE), images


def flat(tree):
    return traverse_util.flatten_dict(tree, sep="/")


def loss_and_gradients(model, variables, x, **apply_options):
    @jax.jit
    def loss(params):
        logits, updates = model.apply(
            {**variables, "params": params}, x, train=True, mutable=["batch_stats"], **apply_options
        )
        return jnp.mean(jax.nn.log_softmax(logits)[:, 0]), updates

    return jax.value_and_grad(loss, has_aux=True)(variables["params"])


def evaluate(model, variables, x, train=False, **options):
    return jax.jit(functools.partial(model.apply, train=train, **options))(variables, x)


def assert_close(tree, other, rtol=1e-3, atol=1e-4):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), tree, other)


@pytest.mark.parametrize(
    ("depth", "growth", "compression", "parameters", "parameters_100", "multiply_adds"),
    [
        (40, 12, 1.0, 1_019_722, 1_060_132, "265 M"),
        (100, 12, 1.0, 6_979_642, 7_084_852, "1.77 G"),
        (100, 24, 1.0, 27_249_082, 27_457_972, "6.89 G"),
        (100, 12, 0.5, 769_162, 800_032, "288 M"),
        (250, 24, 0.5, 15_324_406, 15_480_556, None),
        (190, 40, 0.5, 25_624_430, 25_821_620, "9.30 G"),
        (40, 12, 0.5, 176_122, 188_092, "72 M"),
        (40, 36, 0.5, 1_542_682, 1_578_412, "647 M"),
        (40, 48, 0.5, 2_733_130, 2_780_740, "1.15 G"),
        (40, 60, 0.5, 4_261_690, 4_321_180, "1.80 G"),
    ],
)
def test_nets_for_small_images_have_the_counts_of_the_authors_code(
    depth, growth, compression, parameters, parameters_100, multiply_adds
):
    """The paper prints 1.0M, 7.0M, 27.2M, 0.8M, 15.3M and 25.6M of the first six (table 2)."""
    model = build("densenet", depth, growth, compression)
    counted, computed = models.totals(models.describe(model, SMALL))
    assert counted == parameters
    assert parameters_100 - parameters == 90 * (model_features(model) + 1)
    assert multiply_adds in (None, f"{computed / 1e6:.0f} M", f"{computed / 1e9:.2f} G")


def model_features(model):
    """Return the channels that the head sees."""
    return models.walk(model, SMALL)[-1].variables["params", "kernel"].shape[0]


@pytest.mark.parametrize(
    ("depth", "growth", "parameters", "multiply_adds"),
    [
        (121, 32, 7_978_856, "2.83"),
        (169, 32, 14_149_480, "3.36"),
        (201, 32, 20_013_928, "4.29"),
        (264, 32, 33_337_704, "5.75"),
        (161, 48, 28_681_000, "7.73"),
    ],
)
def test_imagenet_nets_have_the_counts_of_torchvision(depth, growth, parameters, multiply_adds):
    counted, computed = models.totals(models.describe(build("imagenet_densenet", depth, growth, 0.5, 1000), LARGE))
    assert counted == parameters
    assert f"{computed / 1e9:.2f}" == multiply_adds


@pytest.mark.parametrize(("depth", "compression"), [(10, 1.0), (16, 1.0), (10, 0.5), (16, 0.5)])
def test_a_net_has_as_many_weighted_layers_as_its_depth_says(depth, compression):
    layers = models.walk(build("densenet", depth, 4, compression), IMAGE)
    assert sum(("params", "kernel") in layer.variables for layer in layers) == depth
    assert sum(layer.is_block for layer in layers) == (depth - 4) // (1 if compression == 1 else 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": 41}, r"config\.model\.depth=41 is not 3n\+4.*40 and 43"),
        ({"depth": 4}, r"config\.model\.depth=4 is not 3n\+4.*smallest depth is 7"),
        ({"depth": 43, "compression": 0.5}, r"config\.model\.depth=43 is not 6n\+4.*40 and 46"),
        ({"depth": 10, "growth": 1, "compression": 0.1}, r"compression=0\.1 leaves none of the 3 channels.*0\.33"),
        ({"family": "imagenet_densenet", "compression": 0.5}, r"depth=40 .* choose one of 121, 161, 169, 201, 264"),
        ({"family": "imagenet_densenet", "depth": 121}, r"config\.model\.compression=1 is for small images"),
    ],
)
def test_a_net_that_does_not_exist_is_refused_in_a_sentence(wrong, message):
    with pytest.raises(UserError, match=message):
        build(**({"family": "densenet", "depth": 40, "growth": 12, "compression": 1.0} | wrong))


@pytest.mark.parametrize(
    ("fields", "title", "series"),
    [
        ({}, "DenseNet-40-12", "DenseNet-n-12"),
        ({"residual": False}, "plain DenseNet-40-12", "plain DenseNet-n-12"),
        ({"growth": 36, "compression": 0.5}, "DenseNet-BC-40-36", "DenseNet-BC-n-36"),
        ({"compression": 0.25}, "DenseNet-BC-40-12 compression 0.25", "DenseNet-BC-n-12 compression 0.25"),
        (
            {"family": "imagenet_densenet", "depth": 121, "growth": 32, "compression": 0.5},
            "DenseNet-121-32",
            "DenseNet-n-32",
        ),
    ],
)
def test_a_net_is_called_as_in_the_paper(fields, title, series):
    model = {"family": "densenet", "depth": 40} | fields
    assert (models.title(model), models.series_title(model)) == (title, series)
    assert set(models.fields_read(model)) == {"family", "depth", "residual", "growth", "compression", "dropout"}


@pytest.mark.parametrize("kind", ["dense", "plain bottleneck"])
def test_looped_unrolled_and_rematerialised_layers_compute_the_same(kind):
    """Loss, running statistics and gradients, in training; and logits with the running statistics."""
    model, variables, x = make_small(kind)
    results = [
        loss_and_gradients(model.clone(**settings), variables, x)
        for settings in ({}, {"unroll": True}, {"remat": True})
    ]
    for other in results[1:]:
        assert_close(results[0], other)
    variables |= results[0][0][1]
    evaluated = [evaluate(model.clone(unroll=unroll), variables, x) for unroll in (False, True)]
    assert_close(*evaluated)


@pytest.mark.slow
def test_looped_and_unrolled_layers_drop_the_same_activations():
    model, variables, x = make_small("bottleneck", dropout_rate=0.4)
    rngs = {"dropout": jax.random.key(3, impl="unsafe_rbg")}  # Threefry compiles for seconds for each shape.
    train = functools.partial(evaluate, variables=variables, x=x, train=True, rngs=rngs, mutable=["batch_stats"])
    assert_close(train(model), train(model.clone(unroll=True)))
    apply = functools.partial(model.apply, train=True, rngs=rngs, mutable=True, capture_intermediates=True)
    layers = jax.jit(apply)(variables, x)[1]["intermediates"]
    places = [("stage1", f"block{i}", f"Dropout_{j}") for i in range(3) for j in (0, 1)]
    places += [("transition1", "Dropout_0"), ("stage2", "block0", "Dropout_0"), ("stage2", "block0", "Dropout_1")]
    zeroed = [np.mean(capture(layers, path) == 0) for path in places]
    assert 0.3 < min(zeroed) < max(zeroed) < 0.5
    assert not np.any(capture(layers, ("stem", "conv")) == 0)


def capture(layers, path):
    """Return the output of the layer at ``path``."""
    for name in path:
        layers = layers[name]
    return np.asarray(layers["__call__"][0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_reaches_every_parameter(kind):
    _, gradients = loss_and_gradients(*make_small(kind))
    assert [name for name, leaf in flat(gradients).items() if not np.any(leaf)] == []
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("kind", ["dense", "bottleneck"])
def test_a_plain_net_has_the_initial_values_of_the_dense_net_and_weights_without_effect(kind):
    _, dense, x = make_small(kind)
    model, plain, _ = make_small(f"plain {kind}".removesuffix(" dense"))
    jax.tree.map(np.testing.assert_array_equal, plain, dense)
    _, gradients = loss_and_gradients(model, plain, x)
    gradients = flat(gradients)
    assert np.all(gradients["stage1/block0/conv1/kernel"] != 0)
    for name in ("stage1/block2/conv1/kernel", "transition1/conv/kernel"):
        assert not np.any(gradients[name][:, :, :-3])
        assert np.all(gradients[name][:, :, -3:].any((0, 1, 3)))
    assert not np.any(gradients["head/kernel"][:-3])


@pytest.mark.parametrize("residual", [False, True])
def test_no_path_of_a_plain_net_skips_a_layer(residual):
    """Silencing any one layer makes the logits of a plain net independent of the images; of a dense net it does not."""
    model, variables, x = make_small("bottleneck", residual=residual)
    layers = [f"stage1/block{i}" for i in range(3)] + ["stage2/block0"]
    apply = jax.jit(functools.partial(model.apply, train=False))
    assert np.ptp(apply(variables, x), axis=0).min() > 0
    for silent in layers:
        params = flat(variables["params"])
        params[f"{silent}/conv2/kernel"] = np.zeros_like(params[f"{silent}/conv2/kernel"])
        logits = apply({**variables, "params": traverse_util.unflatten_dict(params, sep="/")}, x)
        assert np.any(np.ptp(logits, axis=0)) == residual


def test_bfloat16_computes_in_bfloat16_but_keeps_parameters_statistics_and_logits_in_float32():
    results = []
    for dtype in (jnp.bfloat16, jnp.float32):
        model, variables, x = make_small("bottleneck", dtype=dtype)
        apply = functools.partial(model.apply, train=True, mutable=["batch_stats"])
        results.append(jax.jit(apply)(variables, x))
    (logits, updates), (exact, _) = results
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((updates, variables))} == {jnp.dtype("float32")}
    assert 0 < np.max(np.abs(logits - exact)) < 0.1 * np.std(exact) * 10
    _, captured = jax.eval_shape(
        functools.partial(model.clone(dtype=jnp.bfloat16).apply, train=True, mutable=True, capture_intermediates=True),
        variables,
        x,
    )
    assert captured["intermediates"]["stage2"]["__call__"][0].dtype == jnp.bfloat16


def tensors_of(variables):
    """Return ``variables`` as PyTorch tensors by torchvision's names."""
    torch = pytest.importorskip("torch")
    names = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    return {
        f"{layer_name(path[1:-1])}.{names[path[-1]]}": torch.tensor(np.transpose(leaf, axes[leaf.ndim]))
        for path, leaf in models.unstack(variables).items()
    }


def test_logits_are_those_of_torchvision_from_the_same_weights():
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    model = build("imagenet_densenet", 121, 32, 0.5, 1000)
    variables = models.initial_variables(model, 0, (64, 64, 3))
    random = np.random.default_rng(0)
    for path, leaf in flat(variables).items():
        if not path.endswith("kernel"):
            leaf[...] = (
                random.uniform(0.5, 1.5, leaf.shape)
                if path.endswith(("scale", "var"))
                else 0.1 * random.normal(size=leaf.shape)
            )
    peer = torchvision.models.densenet121().eval()
    missing, unexpected = peer.load_state_dict(tensors_of(variables), strict=False)
    assert unexpected == []
    assert all(name.endswith("num_batches_tracked") for name in missing)
    images = random.normal(size=(2, 64, 64, 3)).astype(np.float32)
    with torch.no_grad():
        expected = peer(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    logits = evaluate(model, variables, images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.std(expected))


@pytest.mark.parametrize("path", [("stage1",), ("stem",), ("stage1", "block0"), ("transition1", "relu")])
def test_what_is_not_a_layer_has_no_name(path):
    with pytest.raises(ValueError, match="is not a layer of a DenseNet"):
        layer_name(path)
