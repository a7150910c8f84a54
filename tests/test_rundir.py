"""Files that are written whole or not at all, and read as they were."""

import pytest

from resnet_jax import rundir
from resnet_jax.errors import UserError


def test_json_goes_there_and_back(tmp_path):
    content = {"status": "finished", "final": {"test": 0.5}}
    rundir.write_json(tmp_path / "a.json", content)
    assert rundir.read_json(tmp_path / "a.json") == content
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert rundir.read_json(tmp_path / "b.json") is None


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    rundir.write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        rundir.write_json(tmp_path / "a.json", {1, 2})
    assert rundir.read_json(tmp_path / "a.json") == 1


def test_damaged_json_is_told(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"a\.json is no valid JSON"):
        rundir.read_json(tmp_path / "a.json")


def test_names_are_dotted_as_overrides_spell_them():
    nested = {"seed": 1, "model": {"depth": 20, "deeper": {"x": (1, 2)}}}
    assert rundir.flatten(nested) == {"seed": 1, "model.depth": 20, "model.deeper.x": [1, 2]}
