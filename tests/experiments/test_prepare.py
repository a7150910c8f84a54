"""The preparation of data sets as a user types it, ImageNet by the real builder from small archives."""

import functools
import importlib.util
import io
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import time

import psutil
import pytest
from PIL import Image

from resnet_jax.data import locate, prepare
from tests.data.conftest import tiny_splits, write_set

ROOT = pathlib.Path(__file__).parents[2]
CIFAR = "--config=configs/cifar_resnet20.py"
IMAGENET = "--config=configs/sweeps/imagenet_18_34.py"
INTERRUPTED = "Interrupted; the data set is not prepared, and the same command starts over."
needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)


@pytest.fixture(scope="module")
def run(commands):
    return functools.partial(commands, "prepare")


def image_file(index, mode="RGB", kind="jpeg"):
    """Return the bytes of an image whose size is its own."""
    stream = io.BytesIO()
    Image.new(mode, (30 + index, 40), index).save(stream, kind)
    return stream.getvalue()


def archive(files):
    """Return the bytes of a tar archive of ``files``, contents by name."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def write_archives(folder, train, val):
    """Write archives laid out as ImageNet's; ``train`` has the images of each class."""
    folder.mkdir(parents=True, exist_ok=True)
    classes = {f"{name}.tar": archive(files) for name, files in train.items()}
    (folder / "ILSVRC2012_img_train.tar").write_bytes(archive(classes))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(archive(val))


# Three classes of the thousand; two have one of the images that TFDS converts to RGB JPEG files.
TRAIN = {
    "n01440764": {f"n01440764_{i}.JPEG": image_file(i) for i in range(5)},
    "n01739381": {"n01739381_7.JPEG": image_file(7), "n01739381_1309.JPEG": image_file(8, mode="CMYK")},
    "n02105855": {"n02105855_9.JPEG": image_file(9), "n02105855_2933.JPEG": image_file(10, kind="png")},
}
# Not in their order, as in the real archive.
VAL = {f"ILSVRC2012_val_{i:08d}.JPEG": image_file(20 + i) for i in (3, 1, 2)}


@pytest.mark.slow
@needs_tensorflow
def test_imagenet_is_prepared_from_its_archives_by_one_command(run, tmp_path):
    write_archives(tmp_path / "archives", TRAIN, VAL)
    words = (IMAGENET, f"--config.data.data_dir={tmp_path / 'sets'}", f"--manual_dir={tmp_path / 'archives'}")
    folder = tmp_path / "sets" / "imagenet2012" / "5.1.0"
    folder.parent.mkdir(parents=True)  # As an interrupted preparation leaves it.
    done = run(*words)
    assert done.returncode == 0, done.stderr
    said = f"in {folder}: 9 train and 3 validation examples of 1,000 classes, "
    assert f"imagenet2012 is prepared {said}" in done.stdout
    assert "Traceback" not in done.stderr
    assert "6,744,924,160." in done.stderr
    assert locate.find("imagenet2012", tmp_path / "sets") == folder

    import tensorflow_datasets as tfds

    found = {}
    for split in ("train", "validation"):
        source = tfds.data_source(
            "imagenet2012",
            split=split,
            data_dir=tmp_path / "sets",
            download=False,
            decoders={"image": tfds.decode.SkipDecoding()},
        )
        found |= {example["file_name"].decode(): (example["label"], example["image"]) for example in source}
    labels = {name: label for name, (label, _) in found.items()}
    assert {name[:9]: label for name, label in labels.items() if name.startswith("n")} == {
        "n01440764": 0,
        "n01739381": 59,
        "n02105855": 230,
    }
    # Labels of the first three images of the real archive.
    assert [labels[name] for name in sorted(VAL)] == [65, 970, 230]
    written = VAL | {name: content for files in TRAIN.values() for name, content in files.items()}
    assert found.keys() == written.keys()
    for name, (_, content) in found.items():
        if name in ("n01739381_1309.JPEG", "n02105855_2933.JPEG"):
            with Image.open(io.BytesIO(content)) as image:
                assert (image.format, image.mode) == ("JPEG", "RGB")
        else:
            assert content == written[name]

    again = run(*words)
    assert again.returncode == 0
    assert f"imagenet2012 is already prepared {said}" in again.stdout
    assert again.stderr == ""


@pytest.fixture
def preparing(tmp_path):
    """Return a command that has begun to prepare what takes seconds, its child processes and its folder."""
    content = image_file(1)
    images = {f"n01440764_{i}.JPEG": content for i in range(20_000)}
    write_archives(tmp_path / "archives", {"n01440764": images}, VAL)
    words = (IMAGENET, f"--config.data.data_dir={tmp_path}", f"--manual_dir={tmp_path / 'archives'}")
    command = [sys.executable, "-m", "experiments.prepare", *words]
    folder = tmp_path / "imagenet2012"
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while not list(folder.glob("incomplete.*")):
            assert process.poll() is None
            time.sleep(0.01)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        yield process, children, folder


@needs_tensorflow
def test_ctrl_c_leaves_nothing(preparing):
    process, children, folder = preparing
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == INTERRUPTED
    assert "Traceback" not in stderr
    assert not any(child.is_running() for child in children)
    assert list(folder.iterdir()) == []
    assert locate.find("imagenet2012", folder.parent) is None


@pytest.mark.slow
@needs_tensorflow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_preparation_outlives_the_command(preparing, number):
    process, children, folder = preparing
    process.send_signal(number)
    assert process.wait() == -number
    gone, alive = psutil.wait_procs(children, timeout=300)
    assert (gone, alive) == (children, [])
    assert list(folder.iterdir()) == []


def state(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def test_a_set_that_is_prepared_is_left_as_it_is(run, tmp_path):
    folder = write_set(tmp_path / "sets", "tiny", tiny_splits())
    before = state(tmp_path)
    done = run(CIFAR, "--config.data.name=tiny", TFDS_DATA_DIR=str(tmp_path / "sets"))
    assert done.returncode == 0, done.stderr
    size = sum(file.stat().st_size for file in folder.iterdir())
    sentence = (
        f"tiny is already prepared in {folder}: 40 train and 17 test examples of 3 classes, {size / 1000:.1f} kB\n"
    )
    assert done.stdout == sentence
    assert state(tmp_path) == before

    (folder / "features.json").write_text("{")
    done = run(CIFAR, "--config.data.name=tiny", TFDS_DATA_DIR=str(tmp_path / "sets"))
    assert done.returncode == 2
    assert f"{folder} is damaged or incomplete (" in done.stderr


def test_the_embedded_digits_need_no_preparation(run):
    done = run("--config=configs/digits_resnet20.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "config.data.name=digits needs no preparation.\n"
    assert done.stderr == ""


def test_image_folders_need_no_preparation(run):
    done = run(IMAGENET, "--config.data.name=folder", "--config.data.data_dir=images")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "config.data.name=folder needs no preparation.\n"


MISTAKES = [
    ((), "--config is missing"),
    (
        (CIFAR, "--config.data.name=cifar11"),
        "config.data.name='cifar11' is unknown to TFDS and not found under {folder}",
    ),
    ((CIFAR, "--manual_folder=here"), "manual_folder"),
    ((CIFAR, "cifar10"), "unexpected argument 'cifar10'"),
    ((CIFAR, "--config.data.data_dir=README.md"), "README.md is a file; set config.data.data_dir"),
    (
        (IMAGENET,),
        "{folder}/downloads/manual does not hold ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar;",
    ),
    ((IMAGENET, "--manual_dir=/nowhere"), "and /nowhere does not hold ILSVRC2012_img_train.tar and"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda value: str(value)[:60])
def test_mistakes_are_refused_in_one_line(run, tmp_path, words, message):
    done = run(*words, TFDS_DATA_DIR=str(tmp_path))
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message.format(folder=tmp_path) in line


def test_too_little_space_is_refused_with_the_figures(run, tmp_path):
    for name in prepare.ARCHIVES:
        with (tmp_path / name).open("wb") as file:
            os.truncate(file.fileno(), 2**42)  # Of nothing: it takes no space.
    done = run(IMAGENET, f"--config.data.data_dir={tmp_path}", f"--manual_dir={tmp_path}")
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert f"error: preparing 'imagenet2012' needs 8.8 TB under {tmp_path}, but only " in line
    assert "are free; free disk space or set config.data.data_dir to another folder." in line


WITHOUT_TENSORFLOW = """
import importlib.machinery, runpy

find = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = lambda name, *others: None if name == "tensorflow" else find(name, *others)
runpy.run_module("experiments.prepare", run_name="__main__", alter_sys=True)
"""


def test_the_command_reports_that_tensorflow_is_missing(run, tmp_path):
    write_archives(tmp_path / "archives", TRAIN, VAL)
    words = (IMAGENET, f"--config.data.data_dir={tmp_path}", f"--manual_dir={tmp_path / 'archives'}")
    done = run(*words, program=WITHOUT_TENSORFLOW)
    assert done.returncode == 2
    assert "error: preparing data set 'imagenet2012' needs TensorFlow, which " in done.stderr.splitlines()[-1]


def test_training_on_imagenet_asks_for_the_archives_too(commands, tmp_path):
    config = "--config=configs/imagenet_resnet34.py"
    done = commands("main", config, f"--config.data.data_dir={tmp_path}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert "does not hold ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar;" in done.stderr
