"""The record of a net in a weights file written here: restored if it is sound, else refused in one message."""

import json

import numpy as np
import pytest

from resnet_jax.errors import UserError
from resnet_jax.evaluation.metadata import read_metadata

SOUND = {
    "model": {"family": "cifar", "depth": 8, "residual": True, "shortcut": "A"},
    "num_classes": 10,
    "crop": None,
    "size": [8, 8],
    "mean": np.full((8, 8, 1), 0.5).tolist(),
    "std": [[[1.0]]],
}


def read(**changes):
    """Return the metadata of a file that records ``SOUND`` with ``changes``."""
    return read_metadata({"resnet_jax": json.dumps(SOUND | changes), "format": "pt"}, "w.safetensors")


def test_sound_metadata_are_restored():
    found = read()
    assert (found["model"]["depth"], found["model"]["shortcut"], found["size"], found["crop"]) == (8, "A", (8, 8), None)
    assert (found["mean"].shape, found["std"].shape, found["std"].dtype) == ((8, 8, 1), (1, 1, 1), np.float32)


def test_foreign_files_have_no_metadata_and_older_versions_fewer():
    assert read_metadata({"format": "pt"}, "w.safetensors") == {}
    older = {"resnet_jax": json.dumps({"model": {"depth": 8}, "mean": [[[0.5]]], "std": [[[1]]]})}
    assert read_metadata(older, "w.safetensors").keys() == {"model", "mean", "std"}


@pytest.mark.parametrize(
    "changes",
    [
        {"model": None},
        {"model": "cifar"},
        {"model": {"depth": -3}},
        {"model": {"depth": "8"}},
        {"model": {"family": "../../x"}},
        {"model": {"family": ["cifar"]}},
        {"model": {"shortcut": "Z"}},
        {"model": {"of_the_future": 1}},
        {"model": {"widening": float("nan")}},
        {"crop": "224"},
        {"crop": 0},
        {"crop": True},
        {"size": 8},
        {"size": [8]},
        {"size": [8, 8.5]},
        {"size": [-8, 8]},
        {"mean": None},
        {"mean": []},
        {"mean": [0.5]},
        {"mean": [[[0.5], [0.5, 0.5]]]},
        {"mean": [[["a"]]]},
        {"mean": [[[float("inf")]]]},
        {"mean": [[[10**400]]]},
        {"std": [[[0.0]]]},
        {"std": [[[-1.0]]]},
        {"std": [[[1.0], [1.0]]]},
        {"std": {"a": 1}},
    ],
    ids=str,
)
def test_metadata_of_wrong_fields_are_refused_with_a_message(changes):
    with pytest.raises(UserError, match=r"^w\.safetensors: its metadata 'resnet_jax' are not valid"):
        read(**changes)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "{}", "[" * 10**5], ids=lambda text: text[:5])
def test_metadata_that_are_not_a_record_are_refused_with_a_message(text):
    with pytest.raises(
        UserError, match=r"^w\.safetensors: its metadata 'resnet_jax' are not valid \(.+\); export it again"
    ):
        read_metadata({"resnet_jax": text}, "w.safetensors")
