"""Weights under PyTorch's names are the same nets here and there."""

import functools
import logging

import jax
import numpy as np
import pytest

from configs import recipes
from resnet_jax import interop, models
from resnet_jax.errors import UserError
from resnet_jax.interop import names
from resnet_jax.models import resnet
from resnet_jax.models.zoo import inception

DEPTHS = [18, 50, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (34, 101, 152))]


def template(family="cifar", num_classes=10, **fields):
    """Return a module, the config of its model and the shapes of its variables."""
    recipe = recipes.imagenet if family == "imagenet" else recipes.cifar
    config = recipe(fields.pop("depth", 8), fields.pop("residual", True)).model
    config.update(fields, family=family)
    model = models.build(config, num_classes)
    return model, config, models.template(model, (32, 32, 3))


@functools.cache
def net(**fields):
    """Return ``template`` with variables of no special value."""
    model, config, like = template(**fields)
    random = np.random.default_rng(0)

    def draw(path, leaf):
        near = {"var": 1.0, "scale": 1.0}.get(path[-1].key, 0.0)
        return (near + 0.1 * random.standard_normal(leaf.shape, np.float32)).astype(np.float32)

    return model, config, jax.tree.map_with_path(draw, like)


def shapes(tensors):
    return {name: tuple(tensor.shape) for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


NETS = [
    {"depth": 8},
    {"depth": 20, "residual": False},
    {"depth": 14, "shortcut": "B"},
    {"depth": 14, "shortcut": "C"},
    {"family": "imagenet", "depth": 18, "shortcut": "A"},
    {"family": "imagenet", "depth": 34, "shortcut": "C", "widening": 0.25},
    {"family": "imagenet", "depth": 50, "shortcut": "B", "widening": 0.25},
    {"depth": 11, "block": "bottleneck", "shortcut": "B"},
    {"depth": 8, "block": "single"},
    {"depth": 8, "shortcut": "B", "order": "relu_preactivation"},
    {"depth": 8, "shortcut": "C", "order": "norm_after_addition"},
    {"depth": 8, "shortcut": "conv", "order": "relu_before_addition"},
    {"depth": 8, "shortcut": "conv", "order": "relu_preactivation"},
]
PREACTIVATED = [
    {"depth": 8},
    {"depth": 8, "residual": False},
    {"depth": 14, "shortcut": "C"},
    {"depth": 8, "block": "single", "shortcut": "B"},
    {"depth": 20, "block": "bottleneck", "shortcut": "B"},
    {"depth": 20, "block": "bottleneck", "shortcut": "B", "stem_activation": False},
    {"depth": 8, "shortcut": "B", "widening": 1.0},
    {"family": "imagenet", "depth": 18, "shortcut": "B", "stem_activation": False, "widening": 0.25},
]
WIDE = [{"family": "wide", "depth": 10, "widening": 2.0}, {"family": "wide", "depth": 16, "widening": 4.0}]
RESIDUAL_SCHEMES = (names.CIFAR, names.TORCHVISION, names.HUGGING_FACE, names.TIMM_V2)
NAMED = [
    *((fields, scheme) for fields in NETS for scheme in RESIDUAL_SCHEMES),
    *((fields | {"order": "preactivation"}, names.CIFAR) for fields in PREACTIVATED),
    *((fields | {"order": "preactivation"}, names.TIMM_V2) for fields in PREACTIVATED),
    *((fields, names.CIFAR) for fields in WIDE),
]


@pytest.mark.parametrize(("fields", "scheme"), NAMED, ids=lambda value: getattr(value, "title", str(value)))
def test_exported_nets_are_recognised_and_come_back(fields, scheme):
    _, config, variables = net(**fields)
    tensors = interop.to_torch(variables, scheme)
    found = interop.recognise(tensors, "file")
    assert found.scheme == scheme
    assert found.model == {name: config[name] for name in found.model}
    determined = {"family", "depth", "widening"} | (set() if config.family == "wide" else {"shortcut"})
    assert found.model.keys() >= determined | (fields.keys() & {"block"})
    assert config.order != "preactivation" or found.model.keys() >= {"order", "stem_activation"}
    like = jax.tree.map(np.zeros_like, variables)
    assert_equal(interop.from_torch(tensors, like, scheme, "file"), variables)


OTHERS = [
    ({"family": "densenet", "depth": 10, "growth": 8, "compression": 1}, names.DENSENET, (8, 8, 3)),
    ({"family": "densenet", "depth": 22, "growth": 7, "compression": 0.5}, names.DENSENET, (8, 8, 3)),
    ({"family": "densenet", "depth": 16, "growth": 8, "compression": 0.75}, names.DENSENET, (8, 8, 3)),
    ({"family": "imagenet_densenet", "depth": 121, "growth": 12, "compression": 0.5}, names.DENSENET, (64, 64, 3)),
    pytest.param(
        {"family": "imagenet_densenet", "depth": 161, "growth": 48, "compression": 0.5},
        names.DENSENET,
        (64, 64, 3),
        marks=pytest.mark.slow,
    ),
    ({"family": "inception_v4", "depth": 76, "residual": False}, names.INCEPTION_V4, (299, 299, 3)),
    ({"family": "inception_resnet_v2", "depth": 164}, names.INCEPTION_RESNET_V2, (299, 299, 3)),
]


@pytest.mark.parametrize(("fields", "scheme", "shape"), OTHERS, ids=lambda value: str(value)[:60])
def test_nets_that_are_not_residual_nets_are_recognised_too(fields, scheme, shape):
    if fields["family"].startswith("inception"):
        fields = fields | {"depth": inception.depth(inception.IMAGENET_NETS[fields["family"]][0])}
    like = models.template(models.build(fields, 10), shape)
    tensors = interop.to_torch(like, scheme)
    found = interop.recognise(tensors, "file")
    assert (found.scheme, found.model) == (scheme, fields)
    assert interop.scheme_of_family(fields["family"]) == scheme
    again = interop.from_torch(tensors, like, scheme, "file")
    assert jax.tree.map(np.shape, again) == jax.tree.map(np.shape, like)


def test_a_wide_net_of_widening_1_is_recognised_as_the_cifar_net_that_it_is():
    _, _, variables = net(family="wide", depth=10, widening=1.0)
    found = interop.recognise(interop.to_torch(variables, names.CIFAR), "file").model
    _, _, same = net(**found)
    assert_equal(same, variables)


@pytest.mark.parametrize("depth", DEPTHS)
def test_torchvision_and_timm_call_the_tensors_of_these_nets_so(depth):
    torch = pytest.importorskip("torch", reason="needs PyTorch; make .venv/peer installs it")
    torchvision = pytest.importorskip("torchvision")
    timm = pytest.importorskip("timm")
    model, _, _ = template("imagenet", depth=depth, shortcut="B", num_classes=1000)
    ours = shapes(interop.to_torch(models.template(model, (224, 224, 3)), names.TORCHVISION))
    with torch.device("meta"):
        assert shapes(torchvision.models.get_model(f"resnet{depth}").state_dict()) == ours
        assert shapes(timm.create_model(f"resnet{depth}").state_dict()) == ours


@pytest.mark.parametrize("depth", [50, pytest.param(101, marks=pytest.mark.slow)])
def test_torchvision_calls_the_tensors_of_wide_nets_so(depth):
    torch = pytest.importorskip("torch", reason="needs PyTorch; make .venv/peer installs it")
    torchvision = pytest.importorskip("torchvision")
    model, _, _ = template("imagenet", depth=depth, shortcut="B", widening=2.0, num_classes=1000)
    ours = interop.to_torch(models.template(model, (224, 224, 3)), names.TORCHVISION)
    assert interop.recognise(ours, "net").model["widening"] == 2
    with torch.device("meta"):
        assert shapes(torchvision.models.get_model(f"wide_resnet{depth}_2").state_dict()) == shapes(ours)


@pytest.mark.parametrize("depth", DEPTHS)
def test_timm_calls_the_tensors_of_preactivation_nets_so(depth):
    torch = pytest.importorskip("torch", reason="needs PyTorch; make .venv/peer installs it")
    timm = pytest.importorskip("timm")
    fields = {"shortcut": "B", "order": "preactivation", "stem_activation": False}
    model, _, _ = template("imagenet", depth=depth, num_classes=1000, **fields)
    ours = shapes(interop.to_torch(models.template(model, (224, 224, 3)), names.TIMM_V2))
    with torch.device("meta"):
        assert shapes(timm.create_model(f"resnetv2_{depth}").state_dict()) == ours


def hugging_face(depth, num_classes=1000):
    transformers = pytest.importorskip("transformers")
    basic = depth < 50
    config = transformers.ResNetConfig(
        layer_type="basic" if basic else "bottleneck",
        hidden_sizes=[64, 128, 256, 512] if basic else [256, 512, 1024, 2048],
        depths=list(resnet.IMAGENET_STAGES[depth][1]),
        num_labels=num_classes,
    )
    return transformers.ResNetForImageClassification(config)


@pytest.mark.parametrize("depth", DEPTHS)
def test_hugging_face_calls_the_tensors_of_these_nets_so(depth):
    torch = pytest.importorskip("torch", reason="needs PyTorch; make .venv/peer installs it")
    model, _, _ = template("imagenet", depth=depth, shortcut="B", num_classes=1000)
    ours = shapes(interop.to_torch(models.template(model, (224, 224, 3)), names.HUGGING_FACE))
    with torch.device("meta"):
        assert shapes(hugging_face(depth).state_dict()) == ours


def foreign(kind, depth, epsilon=1e-5):
    """Return PyTorch's net with statistics like a trained net's."""
    torch = pytest.importorskip("torch", reason="needs PyTorch; make .venv/peer installs it")
    torch.manual_seed(0)
    if kind == "huggingface":
        theirs = hugging_face(depth, 10)
    elif kind == "timm":
        theirs = pytest.importorskip("timm").create_model(f"resnetv2_{depth}", num_classes=10)
        # Draws the head from a normal law of deviation 0.01, too narrow for logits to compare.
        torch.nn.init.kaiming_normal_(theirs.head.fc.weight)
    else:
        name = f"wide_resnet{depth}_2" if kind == "wide" else f"resnet{depth}"
        theirs = pytest.importorskip("torchvision").models.get_model(name, num_classes=10)
        if kind == "caffe":
            for stage in (theirs.layer2, theirs.layer3, theirs.layer4):
                stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = epsilon
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.2, 0.5)
            module.bias.data.normal_(0, 0.1)
    return theirs.eval()


def logits_of_both(theirs, depth, epsilon=1e-5, **fields):
    """Return the logits of PyTorch's net and of ours with its weights, on images of an odd size."""
    import torch

    images = np.random.default_rng(0).normal(size=(2, 43, 32, 3)).astype(np.float32)
    model, _, like = template("imagenet", depth=depth, shortcut="B", **fields)
    tensors = {name: tensor.numpy() for name, tensor in theirs.state_dict().items() if "num_batches" not in name}
    scheme = interop.recognise(tensors, "net").scheme
    variables = interop.from_torch(tensors, like, scheme, "net", epsilon)
    with torch.no_grad():
        out = theirs(torch.from_numpy(images).permute(0, 3, 1, 2))
    return getattr(out, "logits", out).numpy(), np.asarray(model.apply(variables, images, train=False))


@pytest.mark.parametrize(
    ("kind", "depth", "stride"),
    [
        ("torchvision", 50, "middle"),
        ("huggingface", 34, "middle"),
        pytest.param("torchvision", 18, "middle", marks=pytest.mark.slow),
        pytest.param("caffe", 50, "first", marks=pytest.mark.slow),
        pytest.param("huggingface", 50, "middle", marks=pytest.mark.slow),
    ],
)
def test_nets_of_pytorch_compute_the_same_here(kind, depth, stride):
    theirs, ours = logits_of_both(foreign(kind, depth), depth, bottleneck_stride=stride)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert np.abs(theirs).max() > 0.1


@pytest.mark.slow
def test_the_wide_net_of_torchvision_computes_the_same_here():
    theirs, ours = logits_of_both(foreign("wide", 50), 50, bottleneck_stride="middle", widening=2.0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert np.abs(theirs).max() > 0.1


@pytest.mark.parametrize("depth", [18, pytest.param(50, marks=pytest.mark.slow)])
def test_preactivation_nets_of_timm_compute_the_same_here(depth):
    fields = {"order": "preactivation", "stem_activation": False, "bottleneck_stride": "middle"}
    theirs, ours = logits_of_both(foreign("timm", depth), depth, **fields)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert np.abs(theirs).max() > 0.1


@pytest.mark.slow
def test_the_wrong_stride_of_bottlenecks_is_another_net():
    theirs, ours = logits_of_both(foreign("torchvision", 50), 50, bottleneck_stride="first")
    assert np.abs(ours - theirs).max() > 1e-3


def test_another_epsilon_is_carried_over():
    theirs, ours = logits_of_both(foreign("torchvision", 18, epsilon=0.1), 18, epsilon=0.1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_weights_loaded_by_pytorch_strictly_give_the_same_logits():
    torch = pytest.importorskip("torch", reason="needs PyTorch; make .venv/peer installs it")
    theirs = foreign("torchvision", 18)
    model, _, variables = net(family="imagenet", depth=18, shortcut="B")
    tensors = interop.to_torch(variables, names.TORCHVISION)
    theirs.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, strict=True)
    images = np.random.default_rng(0).normal(size=(2, 43, 32, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(model.apply(variables, images, train=False), expected, rtol=1e-3, atol=1e-4)


def remove(tensors):
    del tensors["layer2.0.bn1.bias"]
    return ["layer2.0.bn1.bias: missing in the file, (32,) in the net"]


def add(tensors):
    tensors["layer1.1.conv1.weight"] = np.zeros((16, 16, 3, 3))
    tensors["more"] = np.zeros(3)
    return [
        "layer1.1.conv1.weight: (16, 16, 3, 3) in the file, missing in the net",
        "more: (3,) in the file, missing in the net",
    ]


def reshape(tensors):
    tensors["linear.weight"] = np.zeros((100, 64))
    return ["linear.weight: (100, 64) in the file, (10, 64) in the net"]


def spoil(tensors):
    tensors["conv1.weight"] = np.full((16, 3, 3, 3), np.nan)
    return ["conv1.weight: non-finite (inf or NaN)"]


@pytest.mark.parametrize("damage", [remove, add, reshape, spoil])
def test_tensors_that_do_not_fit_are_listed_by_name_with_both_shapes(damage, caplog):
    _, _, variables = net()
    tensors = interop.to_torch(variables, names.CIFAR)
    expected = damage(tensors)
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(UserError, match=r"weights\.pt does not fit the net in .* nothing was loaded") as raised,
    ):
        interop.from_torch(tensors, variables, names.CIFAR, "weights.pt")
    assert [record.getMessage() for record in caplog.records] == expected
    assert expected[0] in str(raised.value)


def test_a_family_without_pytorch_names_is_refused():
    with pytest.raises(
        UserError, match=r"--format=safetensors: family 'inception' has no PyTorch names; families that"
    ):
        interop.scheme_of_family("inception")


def test_a_preactivation_net_for_imagenet_has_the_names_of_timm():
    assert interop.scheme_of_family("imagenet", "preactivation") == names.TIMM_V2
    assert interop.scheme_of_family("imagenet", "relu_preactivation") == names.TORCHVISION
    assert interop.scheme_of_family("cifar", "preactivation") == interop.scheme_of_family("wide") == names.CIFAR


@pytest.mark.parametrize("fields", [{"shortcut": "exclusive_gating"}, {"shortcut": "shortcut_gating", "depth": 14}])
def test_gates_on_shortcuts_have_no_pytorch_names(fields):
    _, _, variables = net(**fields)
    with pytest.raises(UserError, match=r"layer stage1/block0/gating(/conv)? of the net has no PyTorch name in"):
        interop.to_torch(variables, names.CIFAR)


@pytest.mark.parametrize("kernel", [np.zeros(()), np.zeros((16, 3))])
def test_kernels_of_the_wrong_shape_are_of_no_known_scheme(kernel):
    with pytest.raises(UserError, match=r"file follows no known naming scheme"):
        interop.recognise({"conv1.weight": kernel, "layer1.0.conv1.weight": kernel}, "file")


@pytest.mark.parametrize("tensors", [{}, {"encoder.0.weight": np.zeros(3)}])
def test_names_of_no_known_scheme_are_refused(tensors):
    with pytest.raises(
        UserError, match=r"file follows no known naming scheme .*torchvision and timm.* tensors include"
    ):
        interop.recognise(tensors, "file")
