"""DenseNets, against published counts, torchvision, and what dense paths mean."""

import functools
import operator

import jax
import numpy as np
import pytest
from flax import traverse_util
from ml_collections import ConfigDict

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.interop.densenet import layer_name
from resnet_jax.models.zoo.densenet import DenseNet
from tests.models.nets import NETS, assert_close, computed, evaluated, flat, images, quick_jit

SMALL, LARGE = (32, 32, 3), (224, 224, 3)
IMAGE = (8, 8, 3)


def build(family, depth, growth, compression, classes=10, **fields):
    model = {"family": family, "depth": depth, "growth": growth, "compression": compression, **fields}
    return models.build(ConfigDict(model), classes)


@pytest.mark.parametrize(
    ("depth", "growth", "compression", "parameters", "parameters_100", "multiply_adds"),
    [
        (40, 12, 1.0, 1_019_722, 1_060_132, "265 M"),
        (100, 12, 1.0, 6_979_642, 7_084_852, "1.77 G"),
        pytest.param(100, 24, 1.0, 27_249_082, 27_457_972, "6.89 G", marks=pytest.mark.slow),
        (100, 12, 0.5, 769_162, 800_032, "288 M"),
        pytest.param(250, 24, 0.5, 15_324_406, 15_480_556, None, marks=pytest.mark.slow),
        pytest.param(190, 40, 0.5, 25_624_430, 25_821_620, "9.30 G", marks=pytest.mark.slow),
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
    parts = models.describe(build("densenet", depth, growth, compression), SMALL)
    counted, computed = models.totals(parts)
    assert counted == parameters
    assert parameters_100 - parameters == 9 * parts[-1].parameters  # Ten times as many classes.
    assert multiply_adds in (None, f"{computed / 1e6:.0f} M", f"{computed / 1e9:.2f} G")


@pytest.mark.parametrize(
    ("depth", "growth", "parameters", "multiply_adds"),
    [
        (121, 32, 7_978_856, "2.83"),
        pytest.param(169, 32, 14_149_480, "3.36", marks=pytest.mark.slow),
        pytest.param(201, 32, 20_013_928, "4.29", marks=pytest.mark.slow),
        pytest.param(264, 32, 33_337_704, "5.75", marks=pytest.mark.slow),
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
def test_a_net_that_does_not_exist_is_refused(wrong, message):
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


@pytest.mark.slow
def test_looped_and_unrolled_layers_drop_the_same_activations():
    model, x = NETS["dense bottleneck"]().clone(dropout_rate=0.4), images(batch=6)
    variables = models.initial_variables(model, 0, IMAGE)
    rngs = {"dropout": jax.random.key(3, impl="unsafe_rbg")}  # Threefry compiles for seconds for each shape.

    def train(model):
        apply = functools.partial(model.apply, train=True, rngs=rngs, mutable=["batch_stats"])
        return quick_jit(apply)(variables, x)

    assert_close(train(model), train(model.clone(unroll=True)))
    apply = functools.partial(model.apply, train=True, rngs=rngs, mutable=True, capture_intermediates=True)
    layers = quick_jit(apply)(variables, x)[1]["intermediates"]
    places = [("stage1", f"block{i}", f"Dropout_{j}") for i in range(5) for j in (0, 1)]
    places += [("transition1", "Dropout_0"), ("stage2", "block0", "Dropout_0"), ("stage2", "block0", "Dropout_1")]
    zeroed = [np.mean(output_at(layers, path) == 0) for path in places]
    assert 0.3 < min(zeroed) < max(zeroed) < 0.5
    assert not np.any(output_at(layers, ("stem", "conv")) == 0)


def output_at(layers, path):
    """Return the output of the layer at ``path``."""
    for name in path:
        layers = layers[name]
    return np.asarray(layers["__call__"][0])


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.xdist_group(f"plain {kind}")) for kind in ("dense", "dense bottleneck")],
)
def test_a_plain_net_has_the_initial_values_of_the_dense_net_and_weights_without_effect(kind):
    _, variables, _, (_, gradients) = computed(f"plain {kind}")
    jax.tree.map(np.testing.assert_array_equal, variables, models.initial_variables(NETS[kind](), 0, IMAGE))
    gradients = flat(gradients)
    assert np.all(gradients["stage1/block0/conv1/kernel"] != 0)
    for name in ("stage1/block2/conv1/kernel", "transition1/conv/kernel"):
        assert not np.any(gradients[name][:, :, :-3])
        assert np.all(gradients[name][:, :, -3:].any((0, 1, 3)))
    assert not np.any(gradients["head/kernel"][:-3])


@pytest.mark.parametrize("residual", [False, True])
def test_no_path_of_a_plain_net_skips_a_layer(residual):
    """Silencing any one layer makes the logits of a plain net independent of the images; of a dense net it does not."""
    model, x = NETS["dense bottleneck"]().clone(residual=residual), images(batch=6)
    variables = models.initial_variables(model, 0, IMAGE)
    layers = [f"stage1/block{i}" for i in range(5)] + ["stage2/block0"]
    apply = quick_jit(functools.partial(model.apply, train=False))
    assert np.ptp(apply(variables, x), axis=0).min() > 0
    for silent in layers:
        params = flat(variables["params"])
        params[f"{silent}/conv2/kernel"] = np.zeros_like(params[f"{silent}/conv2/kernel"])
        logits = apply({**variables, "params": traverse_util.unflatten_dict(params, sep="/")}, x)
        assert np.any(np.ptp(logits, axis=0)) == residual


def tensors_of(variables):
    """Return ``variables`` as PyTorch tensors by torchvision's names."""
    torch = pytest.importorskip("torch")
    names = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    return {
        f"{layer_name(path[1:-1])}.{names[path[-1]]}": torch.tensor(np.transpose(leaf, axes[leaf.ndim]))
        for path, leaf in models.unstack(variables).items()
    }


def small_peer(models):
    return models.DenseNet(growth_rate=4, block_config=(2, 1, 1), num_init_features=8, num_classes=10)


@pytest.mark.parametrize(
    ("model", "peer"),
    [
        pytest.param(
            build("imagenet_densenet", 121, 32, 0.5, 1000), operator.methodcaller("densenet121"), marks=pytest.mark.slow
        ),
        (
            DenseNet((2, 1, 1), 8, growth=4, compression=0.5, bottleneck=True, num_classes=10, imagenet_stem=True),
            small_peer,
        ),
    ],
    ids=["121", "small"],
)
def test_logits_are_those_of_torchvision_from_the_same_weights(model, peer):
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    variables = models.initial_variables(model, 0, (64, 64, 3))
    random = np.random.default_rng(0)
    for path, leaf in flat(variables).items():
        if not path.endswith("kernel"):
            leaf[...] = (
                random.uniform(0.5, 1.5, leaf.shape)
                if path.endswith(("scale", "var"))
                else 0.1 * random.normal(size=leaf.shape)
            )
    peer = peer(torchvision.models).eval()
    missing, unexpected = peer.load_state_dict(tensors_of(variables), strict=False)
    assert unexpected == []
    assert all(name.endswith("num_batches_tracked") for name in missing)
    x = random.normal(size=(2, 64, 64, 3)).astype(np.float32)
    with torch.no_grad():
        expected = peer(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    logits = evaluated(model, variables, x)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.std(expected))


@pytest.mark.parametrize("path", [("stage1",), ("stem",), ("stage1", "block0"), ("transition1", "relu")])
def test_only_layers_have_names(path):
    with pytest.raises(ValueError, match="of a DenseNet"):
        layer_name(path)
