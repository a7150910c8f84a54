"""The same data are the same wherever they lie; any change of them is another identity."""

import os
import shutil

import numpy as np
import pytest

import resnet_jax.data.identity as identities
from resnet_jax import data
from resnet_jax.config import default
from resnet_jax.errors import UserError
from tests.images import CLASSES, write_folder


def of(root, **fields):
    config = default().data
    config.name, config.data_dir, config.image_size, config.padding = "folder", str(root), 32, 0
    config.update(fields)
    return data.identify(data.load(config))


@pytest.fixture
def root(tmp_path):
    return write_folder(tmp_path / "images", count=4)


def add(root):
    shutil.copy(root / "ant" / "0.jpg", root / "ant" / "new.jpg")


def remove(root):
    (root / "ant" / "0.jpg").unlink()


def move(root):
    (root / "ant" / "0.jpg").rename(root / "bee" / "9.jpg")


def exchange(root):
    """Exchange two images of different classes: no name and no count changes."""
    one, two = root / "ant" / "0.jpg", root / "bee" / "0.jpg"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def flip_a_bit(root):
    """Change a file, but neither its size nor its time of modification."""
    file = root / "cow" / "3.jpg"
    before, content = file.stat(), bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def rename_a_class(root):
    (root / "cow").rename(root / "cat")


@pytest.mark.parametrize("change", [add, remove, move, exchange, flip_a_bit, rename_a_class])
def test_any_change_of_a_folder_is_seen(root, change):
    before = of(root)
    assert of(root) == before
    assert before["class_names"] == [*CLASSES]
    assert sum(before["examples"]["train"] + before["examples"]["test"]) == 12
    assert before["covers"] == "names and content of all 12 files"
    change(root)
    after = of(root)
    assert after["contents"] != before["contents"] or after["names"] != before["names"]


def test_a_copy_is_the_same_even_where_times_differ(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    for file in copy.rglob("*.jpg"):
        os.utime(file, (1, 1))
    assert of(copy) == of(root)


def test_held_out_examples_are_counted_and_the_files_are_the_same(root):
    whole, held_out = of(root), of(root, validation_examples=3)
    assert sum(held_out["examples"]["validation"]) == 3
    assert held_out["contents"] == whole["contents"]


def test_of_large_folders_times_are_recorded_and_a_part_of_the_content(root, monkeypatch):
    monkeypatch.setattr(identities, "WHOLE_BYTES", 1)
    monkeypatch.setattr(identities, "READ_BYTES", 600)
    before = of(root)
    assert before["covers"] == "names of 12 files, sizes of 12 and the first 600 bytes of 12"
    os.utime(root / "ant" / "0.jpg", (1, 1))
    touched = of(root)
    assert {name for name in before if before[name] != touched[name]} == {"times"}
    flip_a_bit(root)  # Beyond the first bytes, with the same time: not seen, as ``covers`` says.
    assert of(root) == touched
    (root / "cow" / "3.jpg").write_bytes(b"\0" + (root / "cow" / "3.jpg").read_bytes()[1:])
    assert of(root)["contents"] != before["contents"]


def test_the_files_that_are_asked_are_bounded(root, monkeypatch):
    monkeypatch.setattr(identities, "ASKED_FILES", 2)
    monkeypatch.setattr(identities, "READ_FILES", 1)
    assert of(root)["covers"] == "names of 12 files, sizes of 3 and the first 64,000 bytes of 2"  # One test image.


def test_a_set_in_memory_is_its_pixels_labels_and_classes():
    config = default().data
    config.name, config.padding, config.flip = "digits", 0, False
    digits = data.load(config)
    found = data.identify(digits)
    assert (found["class_names"], found["image_shape"]) == ([*"0123456789"], [8, 8, 1])
    assert sum(found["examples"]["train"]) == 1500
    images, labels = digits.splits["train"]
    other = digits._replace(splits=digits.splits | {"train": data.Split(images, np.roll(labels, 1))})
    assert data.identify(other)["contents"] != found["contents"]


def test_a_file_that_vanishes_is_an_error_that_names_it(root):
    config = default().data
    config.name, config.data_dir, config.image_size, config.padding = "folder", str(root), 32, 0
    dataset = data.load(config)
    remove(root)
    with pytest.raises(
        UserError, match=r"ant/0\.jpg cannot be read \(No such file or directory\); repair or remove it"
    ):
        data.identify(dataset)
