"""The cache of decoded sets."""

import numpy as np
import pytest

from resnet_jax.data import cache
from resnet_jax.data.dataset import Dataset, Split


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "set" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "shard").write_text("content")
    return folder


@pytest.fixture
def dataset():
    random = np.random.default_rng(0)
    splits = {
        split: Split(random.integers(0, 256, (n, 4, 4, 3), np.uint8), random.integers(0, 3, n).astype(np.int32))
        for split, n in (("train", 5), ("test", 2))
    }
    return Dataset(("a", "b", "c"), splits)


def refuse():
    pytest.fail("decoded again")


def assert_same(first, second):
    assert first.num_classes == second.num_classes
    assert first.splits.keys() == second.splits.keys()
    for name, split in first.splits.items():
        np.testing.assert_array_equal(split.images, second.splits[name].images)
        np.testing.assert_array_equal(split.labels, second.splits[name].labels)


def test_an_unchanged_set_is_decoded_once(source, dataset, cache_folder):
    assert_same(cache.cached(source, lambda: dataset), dataset)
    assert_same(cache.cached(source, refuse), dataset)
    assert len(list(cache_folder.rglob("*.npz"))) == 1


def test_a_changed_set_is_decoded_again(source, dataset):
    cache.cached(source, lambda: dataset)
    (source / "shard").write_text("other content")
    changed = dataset._replace(num_classes=4)
    assert_same(cache.cached(source, lambda: changed), changed)


def test_a_damaged_cache_is_replaced(source, dataset, cache_folder):
    cache.cached(source, lambda: dataset)
    (file,) = cache_folder.rglob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    assert_same(cache.cached(source, lambda: dataset), dataset)
    assert_same(cache.cached(source, refuse), dataset)


def test_no_wrong_bit_in_the_cache_slips_through(dataset, tmp_path):
    file = tmp_path / "cache.npz"
    cache.write(file, dataset)
    whole = file.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        file.write_bytes(damaged)
        try:
            read = cache.read(file)
        except Exception:  # Whatever it is, ``cached`` takes the file for damaged.
            continue
        assert_same(read, dataset)


def test_without_a_place_for_the_cache_the_set_is_still_there(source, dataset, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert_same(cache.cached(source, lambda: dataset), dataset)
