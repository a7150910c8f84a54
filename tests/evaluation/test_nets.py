"""Nets to evaluate: from runs and from files."""

import json
import logging
import shutil

import jax
import numpy as np
import pytest
import safetensors
from ml_collections import ConfigDict

from resnet_jax import data, evaluation, interop, models
from resnet_jax.errors import UserError
from resnet_jax.rundir import read_config
from resnet_jax.safe_files import read_json
from resnet_jax.training import parallel
from tests.evaluation.conftest import varied_config
from tests.promises.runs import last_state

pytestmark = pytest.mark.xdist_group("varied")


def scores(net, data_config, split="test"):
    images, labels = data.load(data_config).splits[split]
    logits, _ = evaluation.predict(net, images, parallel.device_mesh())
    return evaluation.score(logits, labels)


def assert_same_net(one, other):
    for each, its in ((one.variables, other.variables), (one.mean, other.mean), (one.std, other.std)):
        jax.tree.map(np.testing.assert_array_equal, each, its)


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("run", "kind"), [("whole", "residual-8"), ("varied", "plain-8")])
def test_the_net_of_a_run_has_the_figures_that_the_run_recorded_and_nothing_is_written(run, kind, request):
    workdir = request.getfixturevalue(run)
    before = content(workdir)
    net = evaluation.of_run(workdir, parallel.device_mesh())
    assert (net.name, net.kind, net.num_classes) == (workdir.name, kind, 10)
    final = read_json(workdir / "summary.json")["final"]
    for split, recorded in (("train", "train_clean"), ("validation", "validation"), ("test", "test")):
        if recorded in final:
            found = scores(net, read_config(workdir).config.data, split)
            assert found.top1_error == pytest.approx(final[recorded]["error"])
            assert found.loss == pytest.approx(final[recorded]["loss"], rel=1e-5)
    assert ("validation" in final) == (run == "varied")
    assert content(workdir) == before


def test_the_net_of_a_run_that_averages_is_the_average_with_the_runs_normalisation(varied):
    config = varied_config()
    net = evaluation.of_run(varied, parallel.device_mesh())
    last = last_state(config, varied, image_shape=(4, 4, 1))
    unaveraged = scores(net._replace(variables=net.variables | {"params": last.params}), config.data, "train")
    final = read_json(varied / "summary.json")["final"]
    assert unaveraged.loss != pytest.approx(final["train_clean"]["loss"], rel=1e-2)
    images = data.load(config.data).splits["train"].images / 255
    np.testing.assert_allclose(net.mean, images.mean((0, 1, 2), keepdims=True)[0], rtol=1e-6)
    np.testing.assert_allclose(net.std, np.full((1, 1, 1), images.std()), rtol=1e-6)


def test_a_net_of_downsampled_images_refuses_others(varied, tmp_path):
    net, recorded, dataset, changes = evaluation.open_run(varied, parallel.device_mesh())
    assert changes == []
    pixels, _ = evaluation.sample(dataset, recorded.data, net, "train", 7)
    assert (net.size, net.mean.shape, pixels.shape) == ((4, 4), (1, 1, 1), (7, 4, 4, 1))
    net = net._replace(mean=np.full((4, 4, 1), 0.5, np.float32))

    path, message = tmp_path / "net.safetensors", "was trained on images of 4x4 pixels, but these have 8x8; give it"
    evaluation.write_weights(net, path)
    assert evaluation.of_weights(path, (4, 4, 1), 10).size == (4, 4)
    with pytest.raises(UserError, match=f"^net {message}"):
        evaluation.of_weights(path, (8, 8, 1), 10)
    with pytest.raises(UserError, match=f"^varied {message}"):
        evaluation.predict(net, np.zeros((1, 8, 8, 1), np.uint8), parallel.device_mesh())

    tensors, metadata = interop.read(path)  # Versions before did not record the size.
    older = {name: value for name, value in json.loads(metadata["resnet_jax"]).items() if name != "size"}
    interop.write(tmp_path / "older.safetensors", tensors, {"resnet_jax": json.dumps(older)})
    with pytest.raises(UserError, match=f"^older {message}"):
        evaluation.of_weights(tmp_path / "older.safetensors", (8, 8, 1), 10)


def test_a_damaged_checkpoint_is_skipped_and_kept(whole, tmp_path, caplog):
    copy = shutil.copytree(whole, tmp_path / "copy")
    for path in (copy / "checkpoints" / "12").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    before = content(copy)
    with caplog.at_level(logging.WARNING):
        evaluation.of_run(copy, parallel.device_mesh())
    assert "checkpoint 12 is ignored; the older checkpoint 10 is used" in caplog.text
    assert content(copy) == before


def test_a_folder_without_run_or_checkpoint_is_refused(whole, tmp_path):
    with pytest.raises(UserError, match=r"is not a run directory; give one like runs/NAME"):
        evaluation.of_run(tmp_path, parallel.device_mesh())
    shutil.copy(whole / "config.json", tmp_path)
    with pytest.raises(UserError, match=r"has no checkpoint yet; continue its training or use another run"):
        evaluation.of_run(tmp_path, parallel.device_mesh())
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match=r"has no checkpoint yet"):
        evaluation.of_run(tmp_path, parallel.device_mesh())


def test_the_kind_names_a_shortcut_that_the_net_has(config):
    nets = [
        evaluation.TrainedNet(
            "net", ConfigDict({**config.model, "residual": residual, "shortcut": "B"}), 10, None, {}, None, None, None
        )
        for residual in (False, True)
    ]
    assert [net.kind for net in nets] == ["plain-8", "residual-8, shortcut B"]


def test_written_weights_come_back_as_the_same_net(varied, tmp_path, config):
    """Also where the config says another twin: names and shapes are the same for plain and residual nets."""
    net = evaluation.of_run(varied, parallel.device_mesh())
    path = tmp_path / "net.safetensors"
    evaluation.write_weights(net, path)
    for expected in (config.model, None):
        back = evaluation.of_weights(path, (4, 4, 1), 10, expected)
        assert (back.name, back.kind, back.num_classes, back.class_names) == ("net", "plain-8", 10, net.class_names)
        assert_same_net(back, net)


def written(path, **fields):
    """Write a net of ``fields`` of config.model with its initial values to ``path``; return it."""
    config = models.complete(fields)
    model = models.build(config, 10)
    variables = models.initial_variables(model, 0, (8, 8, 1))
    mean, std = np.zeros((1, 1, 1), np.float32), np.ones((1, 1, 1), np.float32)
    net = evaluation.TrainedNet("net", config, 10, model, variables, mean, std, None)
    evaluation.write_weights(net, path)
    return net


@pytest.mark.parametrize(
    "fields",
    [
        {"shortcut": "pool", "survival": 0.5, "survival_rule": "uniform"},
        {"shortcut": "dropout", "order": "relu_before_addition"},
        {"order": "preactivation", "block": "single", "residual": False, "dropout": 0.1},
        {"family": "wide", "depth": 10, "widening": 2.0},
        {"depth": 11, "block": "bottleneck", "shortcut": "B", "order": "preactivation", "stem_activation": False},
    ],
    ids=str,
)
def test_the_metadata_restore_every_field_that_the_net_reads(fields, tmp_path):
    net = written(tmp_path / "net.safetensors", **{"depth": 8} | fields)
    back = evaluation.of_weights(tmp_path / "net.safetensors", (8, 8, 1), 10)
    assert {name: back.config[name] for name in models.fields_read(net.config)} == {
        name: net.config[name] for name in models.fields_read(net.config)
    }
    assert back.kind == net.kind


def test_a_file_written_here_must_fit_the_config_and_its_metadata_complete_its_tensors(tmp_path):
    path = tmp_path / "net.safetensors"
    written(path, depth=8, shortcut="pool", survival=0.5)
    back = evaluation.of_weights(path, (8, 8, 1), 10, models.complete({"depth": 8, "shortcut": "A"}))
    assert (back.config.shortcut, back.config.survival) == ("pool", 0.5)
    for other in ({"shortcut": "B"}, {"order": "preactivation"}, {"widening": 2.0}):
        with pytest.raises(UserError, match=r"does not fit the net in"):
            evaluation.of_weights(path, (8, 8, 1), 10, models.complete({"depth": 8} | other))


def test_epsilon_is_the_published_nets_unless_given_and_is_known_for_files_written_here(tmp_path):
    net = written(tmp_path / "net.safetensors", depth=8)
    tensors, _ = interop.read(tmp_path / "net.safetensors")
    interop.write(tmp_path / "foreign.safetensors", tensors, {})
    gray = {"mean": (0.5,), "std": (0.5,)}
    for file, epsilon, more in (("foreign", None, 0), ("foreign", 1e-3, 1e-3 - 1e-5), ("net", 1e-3, 0)):
        defaults = evaluation.ForeignDefaults(epsilon=epsilon, **gray)
        back = evaluation.of_weights(tmp_path / f"{file}.safetensors", (8, 8, 1), 10, defaults=defaults)
        expected = net.variables["batch_stats"]["stem"]["bn"]["var"] + np.float32(more)
        np.testing.assert_allclose(back.variables["batch_stats"]["stem"]["bn"]["var"], expected, rtol=1e-6)


def test_a_net_without_pytorch_names_is_not_written(tmp_path):
    with pytest.raises(UserError, match=r"layer stage1/block0/gating.* has no PyTorch name"):
        written(tmp_path / "net.safetensors", depth=8, shortcut="shortcut_gating")
    with pytest.raises(UserError, match=r"layer stage1/block0/identity.* has no PyTorch name"):
        written(tmp_path / "net.safetensors", depth=8, block="repvgg")
    for fields in ({"norm": "none"}, {"branch_scaling": "fixup"}, {"parametrization": "dirac"}):
        with pytest.raises(UserError, match=rf"config\.model\.{next(iter(fields))}='.*have no names; nothing was"):
            written(tmp_path / "net.safetensors", depth=8, **fields)
    assert not list(tmp_path.iterdir())


def test_the_metadata_record_how_pixels_are_normalised(tmp_path):
    net = written(tmp_path / "net.safetensors", depth=8, residual=False)
    with safetensors.safe_open(tmp_path / "net.safetensors", framework="numpy") as file:
        metadata = json.loads(file.metadata()["resnet_jax"])
    assert metadata["model"]["residual"] is False
    assert metadata["num_classes"] == 10
    assert "uint8 / 255 - mean" in metadata["pixels"]
    np.testing.assert_array_equal(np.array(metadata["mean"], np.float32), net.mean)


def test_weights_of_another_net_are_refused_with_the_net_they_fit(tmp_path, config):
    path = tmp_path / "net.safetensors"
    written(path, depth=8)
    config.model.depth = 20
    with pytest.raises(UserError, match=r"nothing was loaded\. Its names and shapes fit --config.model.depth=8"):
        evaluation.of_weights(path, (8, 8, 1), 10, config.model)
    with pytest.raises(
        UserError, match=r"linear\.bias: \(10,\) in the file, \(12,\) in the net; nothing was loaded\.$"
    ):
        evaluation.of_weights(path, (8, 8, 1), 12)


def test_foreign_weights_need_a_mean_and_deviation_per_channel(tmp_path, config):
    path = foreign(tmp_path / "foreign.safetensors")
    with pytest.raises(
        UserError, match=r"--mean has 3 and --std 3 values, but the images have 1 channels; give one value per channel"
    ):
        evaluation.of_weights(path, (8, 8, 1), 10, config.model)
    defaults = evaluation.ForeignDefaults(residual=False, mean=(0.5,), std=(0.25,))
    net = evaluation.of_weights(path, (8, 8, 1), 10, config.model, defaults)
    assert net.kind == "plain-8"
    np.testing.assert_array_equal(net.mean, np.full((1, 1, 1), 0.5))
    np.testing.assert_array_equal(net.std, np.full((1, 1, 1), 0.25))


FOREIGN = {"mean": (0.5,), "std": (0.25,)}


def foreign(path, **changes):
    """Write the tensors of an initial residual-8 with ``changes`` to ``path``, as from elsewhere; return it."""
    net = written(path.with_name("own.safetensors"), depth=8)
    tensors = interop.to_torch(net.variables, interop.scheme_of_family("cifar"))
    interop.write(path, tensors | changes, {})
    return path


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"mean": (125.3,)},
            r"--mean=125\.3 must be from 0 to 1, for pixels scaled to \[0, 1\], e\.g\. --mean=0\.485,",
        ),
        ({"mean": (-0.1,)}, r"--mean=-0\.1 must be from 0 to 1"),
        ({"mean": (float("nan"),)}, r"--mean=nan must be from 0 to 1"),
        (
            {"std": (63.0,)},
            r"--std=63\.0 must be above 0 and at most 1, .* divide values for pixels of 0 to 255 by 255",
        ),
        ({"std": (0.0,)}, r"--std=0\.0 must be above 0 and at most 1"),
        ({"std": (1e-45,)}, r"--std=1e-45 must be above 0 and at most 1"),
        ({"std": (-0.229,)}, r"--std=-0\.229 must be above 0 and at most 1"),
        ({"std": (float("inf"),)}, r"--std=inf must be above 0 and at most 1"),
        (
            {"mean": (0.5, 0.5)},
            r"--mean has 2 and --std 1 values, but",
        ),
        ({"mean": ()}, r"--mean has 0 and --std 1 values"),
        ({"epsilon": float("inf")}, r"--epsilon=inf must be from 0 to 1, e\.g\. --epsilon=1e-5"),
        ({"epsilon": float("nan")}, r"--epsilon=nan must be from 0 to 1"),
        ({"epsilon": -1e-5}, r"--epsilon=-1e-05 must be from 0 to 1"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_normalisation_that_cannot_be_is_refused(tmp_path, values, message):
    path = foreign(tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match=message):
        evaluation.of_weights(path, (8, 8, 1), 10, defaults=evaluation.ForeignDefaults(**FOREIGN | values))


@pytest.mark.parametrize("values", [{"mean": (0.0,), "std": (1.0,)}, {"mean": (1.0,), "std": (1 / 255,)}], ids=str)
def test_any_scale_of_pixels_between_0_and_1_is_accepted(tmp_path, values):
    path = foreign(tmp_path / "foreign.safetensors")
    net = evaluation.of_weights(path, (8, 8, 1), 10, defaults=evaluation.ForeignDefaults(**values))
    assert net.std.item() == np.float32(values["std"][0])


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("bn1.running_var", -1e-3, "a negative variance"),
        ("bn1.running_var", np.nan, r"non-finite \(inf or NaN\)"),
        ("bn1.weight", np.inf, r"non-finite \(inf or NaN\)"),
    ],
)
def test_weights_that_no_net_has_are_refused_by_name(tmp_path, name, value, fault):
    """Negative weights and means are sound."""
    tensor = np.ones(16, np.float32)
    tensor[3] = value
    path = foreign(tmp_path / "foreign.safetensors", **{name: tensor, "bn1.running_mean": -np.ones(16, np.float32)})
    with pytest.raises(UserError, match=rf"in 1 of \d+ tensors, e\.g\. {name}: {fault}; nothing was loaded"):
        evaluation.of_weights(path, (8, 8, 1), 10, defaults=evaluation.ForeignDefaults(**FOREIGN))


def test_a_tensor_without_values_is_refused_by_name(tmp_path):
    path = foreign(tmp_path / "foreign.safetensors", **{"layer1.0.conv1.weight": np.zeros((0, 16, 3, 3), np.float32)})
    with pytest.raises(
        UserError, match=r"tensor layer1\.0\.conv1\.weight has no values, being of shape \(0, 16, 3, 3\)"
    ):
        evaluation.of_weights(path, (8, 8, 1), 10, defaults=evaluation.ForeignDefaults(**FOREIGN))


def test_metadata_of_other_channels_than_the_tensors_are_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    written(path, depth=8)
    tensors, metadata = interop.read(path)
    recorded = json.loads(metadata["resnet_jax"]) | {"mean": [[[0.5] * 3]]}
    interop.write(path, tensors, {"resnet_jax": json.dumps(recorded)})
    with pytest.raises(UserError, match=r"net\.safetensors is of a net for images of 3 channels, but these have 1"):
        evaluation.of_weights(path, (8, 8, 1), 10)


def test_one_net_of_a_file_of_two_is_chosen_by_its_key(tmp_path):
    first, second = ({"linear.bias": np.full(10, value, np.float32)} for value in (1, 2))
    raw, _ = interop.read(foreign(tmp_path / "raw.safetensors", **first))
    average, _ = interop.read(foreign(tmp_path / "average.safetensors", **second))
    both = {f"model.{name}": tensor for name, tensor in raw.items()}
    both |= {f"ema.module.{name}": tensor for name, tensor in average.items()}
    interop.write(tmp_path / "both.safetensors", both, {})
    rest = ((8, 8, 1), 10, None, evaluation.ForeignDefaults(**FOREIGN))
    with pytest.raises(
        UserError, match=r"holds 2 nets: 'ema' \(a running average\), 'model'; choose one, e\.g\. --weights_key=ema"
    ):
        evaluation.of_weights(tmp_path / "both.safetensors", *rest)
    for key, value in (("model", 1), ("ema", 2)):
        net = evaluation.of_weights(tmp_path / "both.safetensors", *rest, key=key)
        assert net.name == f"both ({key})"
        np.testing.assert_array_equal(net.variables["params"]["head"]["bias"], value)
