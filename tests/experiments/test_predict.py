"""``experiments.predict`` as a user types it."""

import pytest
from PIL import Image

from resnet_jax.data import digits
from resnet_jax.safe_files import read_json

pytestmark = pytest.mark.xdist_group("commands")  # One run serves all tests.


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    file = tmp_path_factory.mktemp("images") / "[red\n]digit.png"  # A line break must not forge a row.
    Image.fromarray(digits.load().splits["test"].images[0, ..., 0]).save(file)
    return file


def test_the_classes_of_images_are_printed_and_written(commands, trained, image, tmp_path):
    output = tmp_path / "o.json"
    done = commands("predict", f"--run={trained / 'resnet20'}", image, image.parent, "--top=2", f"--output={output}")
    assert done.returncode == 0, done.stderr
    written = read_json(output)
    assert written["net"] == "resnet20"
    assert [each["file"] for each in written["images"]] == [str(image)] * 2
    best, second, third = [*written["images"][0]["probabilities"].items()][:3]
    for name, probability in (best, second):
        assert f"{name} " in done.stdout
        assert f"{probability:.1%}" in done.stdout
    assert f" {third[0]} " not in done.stdout.split("image")[-1]
    assert "residual-8 of resnet20, 2 images" in done.stdout
    names = "".join(line.split("│")[1].strip() for line in done.stdout.splitlines() if line.startswith("│"))
    assert r"[red\n]digit.png" in names
    again = commands("predict", f"--run={trained / 'resnet20'}", image, f"--output={output}")
    assert (again.returncode, "already exists" in again.stderr) == (2, True)


def test_exported_weights_name_the_classes_too(commands, trained, image, tmp_path):
    weights = tmp_path / "net.safetensors"
    assert commands("export", f"--run={trained / 'resnet20'}", f"--output={weights}").returncode == 0
    outputs = tmp_path / "run.json", tmp_path / "weights.json"
    config = ("--config=configs/digits_resnet20.py", "--config.model.depth=8", f"--weights={weights}")
    for words, output in zip(((f"--run={trained / 'resnet20'}",), config), outputs, strict=True):
        done = commands("predict", *words, image, f"--output={output}")
        assert done.returncode == 0, done.stderr
    one, other = (read_json(output)["images"][0]["probabilities"] for output in outputs)
    assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no images; give files or folders"),
        (("a.png",), "a.png does not exist; give images or folders of images"),
        (("tests",), "tests has no images"),
        (("IMAGE", "--run=a", "--weights=b"), "give --run=runs/NAME, or --config=... and --weights=FILE"),
        (("IMAGE", "--run=nowhere"), "nowhere is not a run directory; give one like runs/NAME"),
    ],
)
def test_mistakes_are_one_message(commands, image, words, said):
    done = commands("predict", *(image if word == "IMAGE" else word for word in words))
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
