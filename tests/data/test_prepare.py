"""Downloading and preparing, in a process of its own."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from resnet_jax.data import prepare, prepared
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


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed")
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


def test_a_failed_preparation_is_told_with_the_ways_on(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "reachable", lambda host: True)
    with pytest.raises(UserError, match=r"'no_such_set' could not be prepared .* config\.data\.data_dir"):
        prepare.prepare("no_such_set", tmp_path)


def test_a_host_that_does_not_exist_is_not_reachable(monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert not prepare.reachable("host.invalid")
