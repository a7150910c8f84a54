"""Prepared TFDS data sets, through the real ``tfds.data_source``."""

import hashlib
import os
import pathlib
import subprocess
import sys
import zlib

import numpy as np
import pytest

from configs import recipes
from resnet_jax import data
from resnet_jax.data import prepare, prepared
from resnet_jax.data.dataset import means
from resnet_jax.errors import UserError
from tests.data.bad_sets import BAD_SETS
from tests.data.conftest import png, tiny_splits, write_set
from tests.images import png_chunk


def assert_equal(dataset, splits):
    assert dataset.num_classes == 3
    assert dataset.splits.keys() == {"train", "test"}
    for (images, labels), split in zip(splits.values(), ("train", "test"), strict=True):
        np.testing.assert_array_equal(dataset.splits[split].images, images)
        np.testing.assert_array_equal(dataset.splits[split].labels, labels)
        assert dataset.splits[split].labels.dtype == np.int32


def test_a_prepared_set_is_read_as_it_was_written(tiny_set):
    root, splits = tiny_set
    assert_equal(prepared.load("tiny", str(root)), splits)


def test_the_environment_names_the_folder_where_the_config_does_not(tiny_set, monkeypatch):
    root, splits = tiny_set
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    assert_equal(prepared.load("tiny", None), splits)


def test_grey_images_and_a_validation_split_are_read_too(tmp_path):
    splits = tiny_splits(shape=(5, 4, 1), splits=("train", "validation"))
    write_set(tmp_path, "grey", splits)
    assert_equal(prepared.load("grey", str(tmp_path)), splits)


def test_the_second_start_does_not_decode(tiny_set, monkeypatch):
    root, splits = tiny_set
    prepared.load("tiny", str(root))
    monkeypatch.setattr(prepared, "read", lambda folder: pytest.fail("decoded again"))
    assert_equal(prepared.load("tiny", str(root)), splits)


def test_the_newest_version_is_read_unless_one_is_named(tmp_path):
    old, new = tiny_splits(), tiny_splits(shape=(4, 4, 3))
    write_set(tmp_path, "tiny", old, version="1.2.0")
    write_set(tmp_path, "tiny", new, version="1.10.0")
    assert_equal(prepared.load("tiny", str(tmp_path)), new)
    assert_equal(prepared.load("tiny:1.2.0", str(tmp_path)), old)


@pytest.mark.parametrize(("make", "sentence"), [case[1:] for case in BAD_SETS], ids=[case[0] for case in BAD_SETS])
def test_a_bad_data_set_is_refused_in_one_sentence_that_names_it(tmp_path, make, sentence):
    make(tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path / 'tiny' / '1.0.0'}.*{sentence}") as raised:
        prepared.load("tiny", str(tmp_path))
    assert "\n" not in str(raised.value)


def test_a_complete_version_is_not_hidden_by_a_newer_one_that_was_being_prepared(tmp_path):
    splits = tiny_splits()
    write_set(tmp_path, "tiny", splits)
    (tmp_path / "tiny" / "2.0.0.incompleteAB12CD").mkdir()
    assert_equal(prepared.load("tiny", str(tmp_path)), splits)


@pytest.mark.parametrize(
    "name", ["", "/", "..", "a/../b", "/etc", "a b", "tiny:1", "tiny:", "tiny:**", "a\0b", "[", "*"]
)
def test_an_invalid_name_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"^config\.data\.name='.*' is not a data set name; write it like cifar10, "):
        prepared.load(name, str(tmp_path))


def test_an_impossible_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"/file is a file; set config\.data\.data_dir to the folder that holds"):
        prepared.load("tiny", str(tmp_path / "file"))
    with pytest.raises(
        UserError, match=r"xxx cannot be read \(.*too long.*\); set config\.data\.data_dir to another folder"
    ):
        prepared.load("tiny", str(tmp_path / ("x" * 300)))
    with pytest.raises(
        UserError, match=r"config\.data\.data_dir=~nobody here/sets: ~nobody here has no home folder here; give"
    ):
        prepared.load("tiny", "~nobody here/sets")


def test_an_unknown_name_is_refused_with_near_ones(tmp_path):
    with pytest.raises(UserError, match=r"config\.data\.name='cifar11' is unknown.*cifar10"):
        prepared.load("cifar11", str(tmp_path))


def test_without_network_and_data_the_message_names_both_ways_out_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "reachable", lambda host: False)
    with pytest.raises(
        UserError, match=r"'cifar10' is not under .*; set config\.data\.data_dir \(.*digits_resnet20\.py"
    ):
        prepared.load("cifar10", str(tmp_path))
    assert list(tmp_path.glob("cifar10*")) == []


def test_a_set_is_cached_once_for_all_sizes(tiny_set, cache_folder):
    root, splits = tiny_set
    config = recipes.digits(depth=8, residual=True).data
    config.name, config.data_dir = "tiny", str(root)
    for factor in (2, 1, 4):
        config.downsample = factor
        found = data.load(config)
        for split, (images, _) in splits.items():
            np.testing.assert_array_equal(found.splits[split].images, means(images, factor))
        assert len(list(cache_folder.rglob("*.npz"))) == 1


def test_metadata_of_images_do_not_hide_them(tmp_path):
    splits = tiny_splits()
    comment = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3_000_000)))
    images, labels = splits["train"]
    encoded = [file[:33] + comment + file[33:] for file in map(png, images)]  # After the header.
    write_set(tmp_path, "tiny", splits | {"train": (encoded, labels)}, shape=(8, 8, 3))
    np.testing.assert_array_equal(prepared.load("tiny", str(tmp_path)).splits["train"].images, images)


def test_reading_needs_no_tensorflow(tiny_set):
    root, _ = tiny_set
    program = (
        "import sys; from resnet_jax.data import prepared; prepared.load('tiny', sys.argv[1]); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(root)], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(
    not (pathlib.Path(os.environ.get("TFDS_DATA_DIR", "/nowhere")) / "cifar10").is_dir(),
    reason="TFDS_DATA_DIR names no folder with a prepared cifar10",
)
def test_cifar10_is_the_real_one():
    dataset = prepared.load("cifar10", None)
    assert dataset.num_classes == 10
    assert data.SHAPES["cifar10"] == (dataset.splits["train"].images.shape[1:], 10)
    for split, examples in (("train", 50_000), ("test", 10_000)):
        images, labels = dataset.splits[split]
        assert images.shape == (examples, 32, 32, 3)
        np.testing.assert_array_equal(np.bincount(labels), [examples // 10] * 10)
    # The channel means that everyone who normalises CIFAR-10 uses.
    means = dataset.splits["train"].images.mean((0, 1, 2)) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=1e-4)
    both = np.concatenate([split.images.reshape(-1, 3072) for split in dataset.splits.values()])
    assert len({hashlib.sha256(image).digest() for image in both}) == 60_000
