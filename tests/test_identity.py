"""What identifies a run: what it is compared by, and what is said where it differs."""

import json

import pytest

from resnet_jax import hosts, identity
from resnet_jax.config import default
from resnet_jax.errors import UserError
from resnet_jax.fields import FIELDS
from resnet_jax.identity import Identity
from resnet_jax.safe_files import write_json

DATA = {
    "class_names": ["cat", "dog"],
    "image_shape": [8, 8, 3],
    "examples": {"train": [45, 45], "test": [5, 5]},
    "covers": "names and content of all 100 files",
    "contents": "a" * 64,
    "times": None,
}
HERE = Identity({"seed": 0, "model.depth": 20}, DATA, {"jax": "0.9", "code": "c" * 64})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"class_names": ["cat", "fish"]}, "class_names ([1] 'dog' there, 'fish' here)"),
        ({"class_names": ["dog", "cat"]}, "class_names ([0] 'cat' there, 'dog' here)"),
        (
            {"class_names": ["bird", "cat", "dog"]},
            "class_names (length 2 there, 3 here; [0] 'cat' there, 'bird' here)",
        ),
        ({"class_names": ["cat", "dog", "eel"]}, "class_names (length 2 there, 3 here)"),
        ({"examples": {"train": [45, 44], "test": [5, 5]}}, "examples.train ([1] 45 there, 44 here)"),
        ({"contents": "b" * 64}, "contents (sha256 aaaaaaaaaaaa there, sha256 bbbbbbbbbbbb here)"),
        ({"image_shape": [4, 4, 3]}, "image_shape ([0] 8 there, 4 here)"),
    ],
)
def test_data_that_differ_are_refused_with_both_values(tmp_path, changed, said):
    identity.check_data(HERE, DATA, tmp_path)
    with pytest.raises(UserError) as refused:
        identity.check_data(HERE, DATA | changed, tmp_path)
    assert f"{tmp_path} was trained on other data, differing in {said}; set config.data.data_dir to" in str(
        refused.value
    )
    assert identity.changed_data(HERE, DATA | changed, "runs/a") == [
        f"runs/a was trained on other data than these: {said}."
    ]


def test_a_copy_of_the_data_is_the_same_data(tmp_path):
    copied = DATA | {"times": "d" * 64, "covers": "names of all files"}
    identity.check_data(HERE, copied, tmp_path)
    assert HERE._replace(data=copied).of_checkpoint == HERE.of_checkpoint
    assert "other modification times; compared were names" in identity.later_start(HERE, HERE._replace(data=copied))[0]


def test_other_versions_are_said_not_refused():
    later = HERE._replace(versions={"jax": "0.10", "code": "c" * 64})
    assert identity.later_start(HERE, HERE) == []
    assert identity.later_start(HERE, later) == [
        "the versions have changed since the first start: jax ('0.9' there, '0.10' here)."
    ]


def test_classes_are_compared_by_name_and_order_where_they_are_known():
    identity.check_classes(None, ("cat",), "net")
    identity.check_classes(("cat", "dog"), ("cat", "dog"), "net")
    with pytest.raises(
        UserError, match=r"^net was trained on other classes than these data have: classes \(\[0\] 'cat' "
    ):
        identity.check_classes(("cat", "dog"), ("dog", "cat"), "net")


def test_a_config_is_identified_by_what_a_run_may_not_change():
    config = default()
    before = identity.of_config(config)
    assert before.keys() == {name for name, field in FIELDS.items() if not field.may_change}
    config.data.data_dir, config.data.on_bad_image, config.log_every = "/elsewhere", "skip", 7
    assert identity.of_config(config) == before
    config.optimizer.learning_rate = 0.5
    assert identity.of_config(config) != before


def test_a_changed_config_file_is_refused_and_fields_that_came_later_are_not(tmp_path):
    config = default()
    older = {name: value for name, value in identity.of_config(config).items() if name != "gates.without"}
    identity.check_config(HERE._replace(config=older), config, tmp_path)
    with pytest.raises(
        UserError, match=r"config\.json is not the one the run was started with: seed \(3 there, 0 here\)"
    ):
        identity.check_config(HERE._replace(config=older | {"seed": 3}), config, tmp_path)


def test_what_is_recorded_is_read_back_or_refused(tmp_path):
    assert identity.read(tmp_path) is None
    assert identity.of_run(tmp_path) is None
    write_json(tmp_path / "identity.json", HERE._asdict())
    assert identity.read(tmp_path) == HERE
    assert identity.of_run(tmp_path) == HERE.of_checkpoint
    no_shape = {name: value for name, value in DATA.items() if name != "image_shape"}
    of_data = ({}, no_shape, *(DATA | {name: value} for name in ("class_names", "image_shape") for value in (3, "abc")))
    for damaged in ([], 3, {}, *(HERE._asdict() | {"data": each} for each in of_data)):
        write_json(tmp_path / "identity.json", damaged)
        with pytest.raises(UserError, match=r"identity\.json is damaged: .*; remove it"):
            identity.read(tmp_path)


def test_processes_that_do_not_run_the_same_are_told_field_and_values(monkeypatch):
    identity.agree({"seed": 0})  # Alone.
    texts = [json.dumps({"config": {"seed": seed}, "versions": {"jax": "0.9"}}) for seed in (0, 0, 1)]
    monkeypatch.setattr(hosts, "gather", lambda text: texts)
    with pytest.raises(
        UserError, match=r"do not run the same: config\.seed \(0 in process 0, 1 in process 2\); start "
    ):
        identity.agree({"seed": 0})
    monkeypatch.setattr(hosts, "gather", lambda text: texts[:2])
    identity.agree({"seed": 0})


def test_hosts_may_have_their_own_folders_and_workers_but_nothing_else():
    named = identity.of_all_processes(default()).keys()
    assert FIELDS.keys() - named == {"data.data_dir", "data.workers"}
