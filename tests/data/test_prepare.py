"""Downloading and preparing, in a separate process."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from resnet_jax.data import locate, prepare, prepared
from resnet_jax.errors import UserError

BUILDER = """
import sys
import numpy as np
import tensorflow_datasets as tfds
from resnet_jax.data.prepare import download_and_prepare

class Made(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(shape=(4, 4, 3)), "label": tfds.features.ClassLabel(num_classes=5)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(10), "test": self._generate_examples(5)}

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"image": np.full((4, 4, 3), i, np.uint8), "label": i % 5}

download_and_prepare("made", sys.argv[1])
"""


needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)


@pytest.mark.slow
@needs_tensorflow
def test_what_tfds_prepares_is_read(tmp_path):
    program = tmp_path / "made.py"
    program.write_text(BUILDER)
    command = [sys.executable, "-W", "ignore", str(program), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(prepare.__file__).parents[2])}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    dataset = prepared.load("made", str(tmp_path))
    assert dataset.num_classes == 5
    images, labels = dataset.splits["train"]
    assert sorted(images[:, 0, 0, 0]) == list(range(10))
    np.testing.assert_array_equal(labels, images[:, 0, 0, 0] % 5)


@needs_tensorflow
def test_a_failed_preparation_is_reported_with_its_reason_and_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "reachable", lambda host: True)
    with pytest.raises(
        UserError,
        match=r"'no_such_set' could not be prepared .* \(DatasetNotFoundError: .*\); .* config\.data\.data_dir",
    ) as raised:
        prepare.prepare("no_such_set", tmp_path)
    assert "\n" not in str(raised.value)


@needs_tensorflow
def test_a_preparation_that_is_killed_is_reported(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -9 $$\n")
    python.chmod(0o755)
    monkeypatch.setattr(prepare, "reachable", lambda host: True)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(UserError, match=r"its process was killed by signal 9, probably because memory ran out"):
        prepare.prepare("cifar10", tmp_path)


def test_without_a_terminal_progress_is_logged_at_intervals(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nsleep 0.5\n")
    python.chmod(0o755)
    lines = []
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(prepare, "SECONDS_BETWEEN_LINES", 0.1)
    monkeypatch.setattr(prepare.logging, "info", lambda text, *values: lines.append(text % values))
    assert prepare.run_preparation("cifar10", tmp_path, None) == ""
    assert len(lines) > 1
    assert re.fullmatch(r"preparing cifar10: 0 minutes so far, [\d.]+ [kMGT]B free on the disk", lines[0])


def test_without_tensorflow_the_message_names_python_and_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "reachable", lambda host: True)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UserError, match=rf"needs TensorFlow, which {sys.executable} does not have; .*pip install"):
        prepare.prepare("cifar10", tmp_path)


def test_archives_of_a_given_folder_need_no_network(tmp_path, monkeypatch):
    """An archive that lies there, as of CIFAR-10, is taken by TFDS instead of a download."""
    monkeypatch.setattr(prepare, "reachable", lambda host: pytest.fail("asked the network"))
    monkeypatch.setattr(prepare, "run_preparation", lambda *words: f"manual_dir {words[2]}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    with pytest.raises(UserError, match=r"manual_dir /archives"):
        prepare.prepare("cifar10", tmp_path, pathlib.Path("/archives"))


def test_what_a_killed_preparation_leaves_is_not_taken_for_a_set_and_is_named(tmp_path, monkeypatch):
    left = tmp_path / "cifar10" / "incomplete.AB12CD_3.0.2"
    left.mkdir(parents=True)
    (left / "dataset_info.json").write_text('{"fileFormat": "array_record"}')
    assert locate.find("cifar10", tmp_path) is None
    warnings = []
    monkeypatch.setattr(prepare, "reachable", lambda host: True)
    monkeypatch.setattr(prepare, "run_preparation", lambda *words: "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(prepare.logging, "warning", lambda text, *values: warnings.append(text % values))
    prepare.prepare("cifar10", tmp_path)
    assert warnings == [f"{left} is left over from a preparation that was killed; remove it unless one is running."]


TRAIN, VAL = prepare.ARCHIVES


def archives(folder, *names):
    """Write archives of no content to ``folder``."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(bytes(1024))
    return folder


@pytest.mark.parametrize(("there", "missing"), [((), f"{TRAIN} and {VAL}"), ((TRAIN,), VAL), ((VAL,), TRAIN)])
def test_imagenet_without_its_archives_asks_for_them_and_for_no_network(tmp_path, monkeypatch, there, missing):
    monkeypatch.setattr(prepare, "reachable", lambda host: pytest.fail("asked the network"))
    folder = archives(tmp_path / "downloads" / "manual", *there)
    with pytest.raises(
        UserError, match=rf"and {folder} does not hold {missing}; .* docs/imagenet\.md .* --manual_dir="
    ):
        prepared.load("imagenet2012", str(tmp_path))


def test_archives_are_refused_that_tfds_would_not(tmp_path):
    """TFDS would make splits of what there is, of the unlabelled images too."""
    folder = archives(tmp_path / "all", *prepare.ARCHIVES, prepare.TEST_ARCHIVE)
    with pytest.raises(UserError, match=rf"{folder}/ILSVRC2012_img_test\.tar has no labels.*; move it elsewhere\."):
        prepare.check_archives(folder, tmp_path)
    for folder in (tmp_path / ("x" * 300), pathlib.Path("~nobody here")):
        with pytest.raises(UserError, match=r"cannot be read \(.*\); set --manual_dir to another folder\."):
            prepare.check_archives(folder, tmp_path)


@pytest.mark.parametrize("content", [b"", bytes(1000), b"image" + bytes(1023)])
def test_a_truncated_archive_is_refused_at_once(tmp_path, content):
    folder = archives(tmp_path / "cut", TRAIN, VAL)
    (folder / TRAIN).write_bytes(content)
    with pytest.raises(UserError, match=rf"{folder / TRAIN} is truncated: its [\d,]+ bytes .*; download the rest"):
        prepare.check_archives(folder, tmp_path)


def test_archives_of_another_size_are_named(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(prepare.logging, "warning", lambda text, *values: warnings.append(text % values))
    folder = archives(tmp_path / "cut", *prepare.ARCHIVES)
    prepare.check_archives(folder, tmp_path / "not" / "there" / "yet")
    assert warnings == [
        f"{folder / TRAIN} has 1,024 bytes, but the one at image-net.org has 147,897,477,120.",
        f"{folder / VAL} has 1,024 bytes, but the one at image-net.org has 6,744,924,160.",
    ]


def test_a_host_that_does_not_exist_is_not_reachable(monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert not prepare.reachable("host.invalid")
