"""Evaluation and export as a user types them."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from resnet_jax import interop
from resnet_jax.safe_files import read_json
from tests.experiments.conftest import SMALL

pytestmark = pytest.mark.xdist_group("commands")  # Two runs serve all tests.
WEIGHTS = pathlib.Path(os.environ.get("WEIGHTS_DIR", "/nowhere"))


@pytest.fixture
def runs(trained):
    """Return the directories of a plain and a residual run."""
    return trained / "plain20", trained / "resnet20"


@pytest.fixture(scope="module")
def exported(commands, trained, tmp_path_factory):
    """Return the weights of the residual run in a file."""
    file = tmp_path_factory.mktemp("exported") / "resnet20.safetensors"
    assert commands("export", f"--run={trained / 'resnet20'}", f"--output={file}").returncode == 0
    return file


@pytest.fixture(scope="module")
def predicted(commands, trained, tmp_path_factory):
    """Return files with the figures and the predictions of the residual run on the test images."""
    folder = tmp_path_factory.mktemp("predicted")
    output, predictions = folder / "o.json", folder / "p.npz"
    words = (f"--run={trained / 'resnet20'}", f"--output={output}", f"--predictions={predictions}")
    assert commands("evaluate", *words).returncode == 0
    return output, predictions


def test_a_run_is_evaluated_as_it_was_when_it_finished(commands, runs, tmp_path):
    done = commands(
        "evaluate", f"--run={runs[0]}", f"--output={tmp_path / 'o.json'}", f"--predictions={tmp_path / 'p.npz'}"
    )
    assert done.returncode == 0, done.stderr
    final = read_json(runs[0] / "summary.json")["final"]["test"]
    figures = read_json(tmp_path / "o.json")
    [net] = figures.pop("nets")
    assert net["top1_error"] == pytest.approx(final["error"])
    assert net["loss"] == pytest.approx(final["loss"], rel=1e-5)
    assert net["images_per_second"] > 0
    assert figures.pop("command")[:3] == ["python", "-m", "experiments.evaluate"]
    assert figures == {"data": "digits", "split": "test", "images": 297, "protocol": "single", "flip": False}
    for text in ("digits test, 297 images", "plain-8", f"{final['error']:.2%}"):
        assert text in done.stdout
    with np.load(tmp_path / "p.npz", allow_pickle=False) as predictions:
        assert predictions["logits"].shape == (297, 10)
        assert np.mean(predictions["logits"].argmax(1) != predictions["labels"]) == pytest.approx(final["error"])


def test_several_nets_are_an_ensemble(commands, runs, exported, tmp_path):
    members = (f"--run={runs[0]}", f"--run={runs[1]}", f"--weights={exported}")
    done = commands("evaluate", *members, "--split=train", f"--output={tmp_path / 'o.json'}")
    assert done.returncode == 0, done.stderr
    plain, residual, exported, ensemble = read_json(tmp_path / "o.json")["nets"]
    assert [net["net"] for net in (plain, residual, exported, ensemble)] == [
        "plain-8",
        "residual-8",
        "residual-8",
        "3 nets",
    ]
    for figure in ("loss", "top1_error", "top5_error"):
        assert residual[figure] == pytest.approx(exported[figure], rel=1e-6)
    assert ensemble["loss"] < max(plain["loss"], residual["loss"])


def test_pytorch_loads_an_export_strictly_and_computes_the_same(commands, runs, predicted):
    torch = pytest.importorskip("torch", reason="needs PyTorch; make .venv/peer installs it")
    peer = pytest.importorskip("benchmarks.peer")
    safetensors = pytest.importorskip("safetensors.torch")
    done = commands("export", f"--run={runs[1]}", "--format=safetensors")
    assert done.returncode == 0, done.stderr
    path = runs[1] / "resnet20.safetensors"
    assert str(path) in done.stdout
    net = peer.PeerNet(8, residual=True, channels=1).eval()
    net.load_state_dict(safetensors.load_file(path), strict=True)
    with safetensors.safe_open(path, framework="numpy") as file:
        mean = np.array(json.loads(file.metadata()["resnet_jax"])["mean"], np.float32)

    from resnet_jax.data import digits

    images, labels = digits.load().splits["test"]
    pixels = torch.from_numpy(images.astype(np.float32) / 255 - mean).permute(0, 3, 1, 2)
    with np.load(predicted[1], allow_pickle=False) as predictions, torch.no_grad():
        np.testing.assert_allclose(predictions["logits"], net(pixels).numpy(), rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(predictions["labels"], labels)
    again = commands("export", f"--run={runs[1]}")
    assert again.returncode == 2
    assert "already exists; choose a new file in an existing folder" in again.stderr
    path.unlink()


# A program that needs only JAX.
ELSEWHERE = """
import sys
import jax
import jax.export
import numpy as np

# `make` installs this project in editable form, by a finder of its own.
sys.meta_path = [finder for finder in sys.meta_path if "resnet_jax" not in getattr(finder, "__module__", "")]
try:
    import resnet_jax
except ImportError:
    pass
else:
    sys.exit("resnet_jax can be imported")
with open("net.stablehlo", "rb") as file:
    exported = jax.export.deserialize(file.read())
images = np.load("images.npy")
logits = [np.asarray(jax.jit(exported.call)(images[start:end])) for start, end in ((0, 1), (1, None))]
np.save("logits.npy", np.concatenate(logits))
assert not any(name.split(".")[0] in ("resnet_jax", "experiments", "flax") for name in sys.modules)
"""


def test_a_process_without_this_project_makes_the_same_errors_with_the_program(commands, runs, predicted, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    export = ("export", f"--run={runs[1]}", "--format=stablehlo", f"--output={folder / 'net.stablehlo'}")
    done = commands(*export)
    assert done.returncode == 0, done.stderr
    assert f"Exported residual-8 of {runs[1]} to {folder / 'net.stablehlo'}" in done.stdout

    from resnet_jax.data import digits

    output, predictions = predicted

    images, labels = digits.load().splits["test"]
    np.save(folder / "images.npy", images)
    # -I: neither the folder that this process was started in nor PYTHONPATH is searched for modules.
    done = subprocess.run([sys.executable, "-I", "-c", ELSEWHERE], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    logits = np.load(folder / "logits.npy")
    with np.load(predictions, allow_pickle=False) as found:
        np.testing.assert_allclose(logits, found["logits"], rtol=1e-5, atol=1e-5)
    assert np.mean(logits.argmax(1) != labels) == pytest.approx(read_json(output)["nets"][0]["top1_error"])
    assert read_json(folder / "net.stablehlo.json") == {"class_names": [*"0123456789"]}

    again = commands(*export)
    assert again.returncode == 2
    assert "net.stablehlo already exists; choose a new file in an existing folder" in again.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "errors"), [(20, 827), (56, 661)])
def test_nets_trained_elsewhere_make_their_published_errors_here(commands, depth, errors, tmp_path):
    """Counted in PyTorch on the same 10,000 images: 827 and 661."""
    weights = WEIGHTS / f"cifar10_resnet{depth}_pytorch.safetensors"
    if not weights.exists() or "TFDS_DATA_DIR" not in os.environ:
        pytest.skip("WEIGHTS_DIR or TFDS_DATA_DIR names no folder with the weights or CIFAR-10")
    output, predictions = tmp_path / "o.json", tmp_path / "p.npz"
    words = (f"--config=configs/cifar_resnet{depth}.py", f"--weights={weights}")
    done = commands("evaluate", *words, f"--output={output}", f"--predictions={predictions}")
    assert done.returncode == 0, done.stderr
    figures = read_json(output)
    assert figures["images"] == 10_000
    assert abs(figures["nets"][0]["top1_error"] * 10_000 - errors) <= 2

    torch = pytest.importorskip("torch", reason="needs PyTorch; make .venv/peer installs it")
    peer = pytest.importorskip("benchmarks.peer")
    from configs import recipes
    from resnet_jax import data

    images = data.load(recipes.cifar(20, True).data).splits["test"].images[:1000]
    net = peer.PeerNet(depth, residual=True, channels=3).eval()
    tensors, _ = interop.read(weights)
    net.load_state_dict({name: torch.from_numpy(tensor.copy()) for name, tensor in tensors.items()}, strict=True)
    mean, std = (torch.tensor(each)[None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = ((torch.from_numpy(images) / 255 - mean) / std).permute(0, 3, 1, 2)
    with np.load(predictions, allow_pickle=False) as found, torch.no_grad():
        np.testing.assert_allclose(found["logits"][:1000], net(pixels).numpy(), rtol=1e-4, atol=1e-4)


CONFIG = "--config=configs/digits_resnet20.py"
MISTAKES = [
    ((), "nothing to evaluate; give --run=runs/NAME or --weights=FILE.safetensors."),
    (("--run=nowhere",), "--run=nowhere is not a run directory; use one like runs/NAME."),
    (("--weights=no.safetensors",), "--config is missing"),
    ((CONFIG, "--weights=no.safetensors"), "no.safetensors is not a file"),
    ((CONFIG, "--weights=README.md"), "README.md is a text file, not the weights; download the weights file itself."),
    (("--run={plain}", "--weights_key=ema"), "--weights_key is for --weights; give both or neither"),
    (("--run={plain}", "--split=dev"), "--split=dev does not exist; the splits are train, test."),
    (
        ("--run={plain}", "--protocol=ten_crop"),
        "--protocol=ten_crop is for nets trained on crops, but plain20 takes images as they are",
    ),
    (("--run={plain}", "--protocol=best"), "--protocol"),
    (("--run={plain}", "--output=README.md"), "--output=README.md already exists"),
    (
        ("--run={plain}", "--predictions=no/p.npz"),
        "--predictions=no/p.npz is in a folder that does not exist; choose a new file",
    ),
    (("--run={plain}", "--mean=a,b"), "--mean=a,b must be numbers, e.g. 0.5,0.5,0.5."),
    (
        (CONFIG, "--weights={foreign}", "--mean=125.3", "--std=63"),
        "--mean=125.3 must be from 0 to 1, for pixels scaled",
    ),
    (("--run={plain}", "--epsilon=-1"), "--epsilon"),
    (("{plain}",), "unexpected argument"),
    (
        (CONFIG, "--config.data.downsample=2", "--run={plain}"),
        "plain20 was trained on images of 8x8 pixels, but these have 4x4",
    ),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes_are_refused_in_one_line(commands, runs, tmp_path, words, message):
    foreign = tmp_path / "foreign.safetensors"
    names = ("conv1.weight", "layer1.0.conv1.weight")
    interop.write(foreign, dict.fromkeys(names, np.zeros((16, 16, 3, 3), np.float32)), {})
    done = commands("evaluate", *[word.format(plain=runs[0], foreign=foreign) for word in words])
    assert done.returncode == 2, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert message in line
    assert "Traceback" not in done.stderr


def test_of_a_file_of_two_nets_the_chosen_one_is_evaluated(commands, runs, exported, tmp_path):
    both = tmp_path / "both.pth.tar"
    tensors, metadata = interop.read(exported)
    zeros = {f"model.{name}": np.zeros_like(tensor) for name, tensor in tensors.items()}
    average = {f"model_ema.module.{name}": tensor for name, tensor in tensors.items()}
    interop.write(both, zeros | average, {"resnet_jax": metadata["resnet_jax"]})
    words = (CONFIG, *SMALL, f"--weights={both}")
    done = commands("evaluate", *words)
    assert done.returncode == 2
    assert "both.pth.tar holds 2 nets: 'model', 'model_ema' (a running average); choose one, e.g. --w" in done.stderr
    assert "Traceback" not in done.stderr
    done = commands("evaluate", *words, "--weights_key=model_ema", f"--output={tmp_path / 'o.json'}")
    assert done.returncode == 0, done.stderr
    assert "both.pth.tar: leaving out the prefix 'module.' of all names" in done.stderr
    [net] = read_json(tmp_path / "o.json")["nets"]
    assert net["name"] == "both.pth (model_ema)"
    assert net["top1_error"] == pytest.approx(read_json(runs[1] / "summary.json")["final"]["test"]["error"])


def test_every_command_that_takes_weights_takes_their_key():
    for path in pathlib.Path(__file__).parents[2].joinpath("experiments").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert ('("weights", ' in text) == ("command.define_weights_key()" in text), path


def test_an_export_needs_a_run(commands):
    for words, message in (
        ((), "--run is missing; give a run directory, e.g. --run=runs/NAME."),
        (("--run=nowhere",), "nowhere is not a run directory"),
        (("--run=nowhere", "--format=onnx"), "flag --format=onnx: value should be one of <safetensors|stablehlo>"),
    ):
        done = commands("export", *words)
        assert done.returncode == 2
        assert message in done.stderr
