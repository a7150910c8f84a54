"""Nets as programs that JAX runs without this project."""

import os
import pathlib

import jax
import numpy as np
import pytest

from configs import recipes
from resnet_jax import data, evaluation, models
from resnet_jax.errors import UserError
from resnet_jax.evaluation.stablehlo import PLATFORMS, exported
from resnet_jax.evaluation.views import views
from resnet_jax.training import parallel

WEIGHTS = pathlib.Path(os.environ.get("WEIGHTS_DIR", "/nowhere")) / "cifar10_resnet20_pytorch.safetensors"


def net(dtype="float32", crop=None, gate=None, **fields):
    """Return a net of random weights for images of 8x8 pixels, or for such crops; its pixels have a mean each."""
    model_config = models.complete(recipes.cifar(8, True).model.to_dict() | fields)
    model = models.build(model_config, 10, dtype)
    variables = dict(models.initial_variables(model, 0, (8, 8, 3)))
    if gate:
        variables["gates"] = models.gate_blocks(model, (8, 8, 3), gate)
    mean = np.random.default_rng(1).random((8, 8, 3) if crop is None else (1, 1, 3)).astype(np.float32)
    std, size = np.full((1, 1, 3), 0.3, np.float32), None if crop else (8, 8)
    return evaluation.TrainedNet("net", model_config, 10, model, variables, mean, std, crop, size=size)


def images(count, shape=(8, 8, 3)):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def loaded(one, path):
    evaluation.write_stablehlo(one, path)
    return jax.export.deserialize(path.read_bytes())


# A net of each family, of each dtype, and with gates, which evaluation reads from a run next to its parameters.
NETS = {
    "bottleneck": {"order": "preactivation", "block": "bottleneck", "depth": 11},
    "bfloat16": {"dtype": "bfloat16"},
    "gates": {"gate": models.Gate(0.5, 1.0, 2.0, 1.0)},
    "plain, group norm": {"residual": False, "norm": "group"},
    "stochastic depth": {"survival": 0.5, "shortcut": "pool"},
    "wide": {"family": "wide", "depth": 10, "dropout": 0.1},
    "DenseNet": {"family": "densenet", "depth": 10, "growth": 8, "compression": 0.5},
    "Inception": {"family": "inception", "depth": 20},
}
FAST = ("bottleneck", "gates")


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in NETS]
)
def test_the_program_and_the_evaluation_have_equal_logits(name, tmp_path):
    one = net(**NETS[name])
    expected, _ = evaluation.predict(one, images(3), parallel.device_mesh())
    found = loaded(one, tmp_path / "net.stablehlo").call(images(3))
    assert (found.shape, found.dtype) == ((3, 10), np.float32)
    tolerance = (1e-2 if name == "bfloat16" else 1e-5) * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_a_net_trained_on_crops_takes_crops(tmp_path):
    one = net(crop=8)
    whole = images(3, (10, 12, 3))
    expected, _ = evaluation.predict(one, whole, parallel.device_mesh())
    program = loaded(one, tmp_path / "net.stablehlo")
    crops = np.concatenate([views(image, 8, "single", flip=False) for image in whole])
    np.testing.assert_allclose(program.call(crops), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_program_keeps_the_form_of_each_platform_and_its_slices_with_any_batch_size():
    program = exported(net(**NETS["bottleneck"]))
    assert program.platforms == PLATFORMS
    [image], [logits] = program.in_avals, program.out_avals
    assert (str(image), str(logits)) == ("uint8[batch,8,8,3]", "float32[batch,10]")
    # A convolution of 1x1 is a product only on CPUs.
    assert "stablehlo.case" in program.mlir_module()
    for name in ("bottleneck", "gates", "DenseNet"):
        assert "gather" not in exported(net(**NETS[name])).mlir_module()


def test_images_of_another_size_or_type_are_refused_by_jax(tmp_path):
    program = loaded(net(), tmp_path / "net.stablehlo")
    for wrong, message in (
        (images(3) / np.float32(255), "Dtype mismatch for args.0.: expected uint8 and called with float32"),
        (images(3)[0], r"Rank mismatch for args.0.: expected \(batch, 8, 8, 3\) and called with \(8, 8, 3\)"),
        (images(3, (4, 8, 3)), r"expected \(batch, 8, 8, 3\) and called with \(3, 4, 8, 3\)"),
        (images(0), "Expected value >= 1 for dimension variable 'batch'"),
    ):
        with pytest.raises(ValueError, match=message):
            program.call(wrong)


def test_a_net_for_images_of_any_size_is_refused_until_one_is_named(tmp_path):
    one = net()._replace(size=None)
    with pytest.raises(UserError, match=r"^net takes images of any size.*e\.g\. net\._replace\(size=\(32, 32\)\)\.$"):
        evaluation.write_stablehlo(one, tmp_path / "net.stablehlo")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_published_net_makes_the_same_errors_on_real_images(tmp_path):
    if not WEIGHTS.exists() or "TFDS_DATA_DIR" not in os.environ:
        pytest.skip("WEIGHTS_DIR or TFDS_DATA_DIR names no folder with the weights or CIFAR-10")
    split = data.load(recipes.cifar(20, True).data).splits["test"]
    real, labels = split.images[:1000], split.labels[:1000]
    one = evaluation.of_weights(WEIGHTS, (32, 32, 3), 10)._replace(size=(32, 32))
    expected, _ = evaluation.predict(one, real, parallel.device_mesh())
    found = np.asarray(loaded(one, tmp_path / "net.stablehlo").call(real))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert evaluation.score(found, labels).top1_error == evaluation.score(expected, labels).top1_error < 0.1
