"""Finding prepared data sets: the folder of one set is not the folder of the sets."""

import json

import pytest

from resnet_jax.data import locate, prepare
from resnet_jax.errors import UserError


def write_set(folder, name):
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(json.dumps({"name": name, "fileFormat": "array_record"}))


@pytest.mark.parametrize("wanted", ["cifar10", "emnist/digits", "cifar100"])
@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("cifar10", "cifar10"),
        ("cifar10/3.0.2", "cifar10"),
        ("emnist", "emnist"),
        ("emnist/digits", "emnist"),
        ("emnist/digits/3.1.0", "emnist"),
    ],
)
def test_the_folder_of_a_set_is_refused_and_its_parent_named(tmp_path, monkeypatch, given, name, wanted):
    monkeypatch.setattr(prepare, "prepare", lambda *words: pytest.fail("prepared a set in the folder of another"))
    sets = tmp_path / "sets"
    write_set(sets / "cifar10" / "3.0.2", "cifar10")
    write_set(sets / "emnist" / "digits" / "3.1.0", "emnist")
    with (
        pytest.raises(UserError) as raised,
        locate.located(wanted, str(sets / given)),
    ):
        pass
    assert str(raised.value) == (
        f"{sets / given} is the folder of the data set {name}; set config.data.data_dir to {sets}."
    )


def test_a_set_is_found_in_a_folder_called_as_another(tmp_path):
    write_set(tmp_path / "cifar10" / "mnist" / "3.0.1", "mnist")
    with locate.located("mnist", str(tmp_path / "cifar10")) as folder:
        assert folder == tmp_path / "cifar10" / "mnist" / "3.0.1"


@pytest.mark.parametrize("damage", ["", "[]", '{"name": 3}', '{"name": "cifar10"}'])
def test_a_folder_of_sets_may_hold_damaged_ones(tmp_path, damage):
    write_set(tmp_path / "mnist" / "3.0.1", "mnist")
    for place in ("cifar10/3.0.2", "other"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "dataset_info.json").write_text(damage)
    locate.check_holds_sets(tmp_path)
    locate.check_holds_sets(tmp_path / "not there yet")
