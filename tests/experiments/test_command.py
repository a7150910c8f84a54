"""What all commands share."""

import os
import pathlib
import subprocess
import sys

import pytest

from resnet_jax.fields import FIELDS

ROOT = pathlib.Path(__file__).parents[2]


def rows(*words):
    """Return the words of each row of the table that --fields prints, by the field."""
    command = [sys.executable, "-m", *words, "--fields"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    lines = [line for line in result.stdout.splitlines() if line[1:2].strip()]  # The others continue a row.
    return {line.split()[0]: line.split()[1:] for line in lines if line.split()[0] in FIELDS}


@pytest.mark.parametrize("command", ["main", "sweep", "evaluate", "prepare", "surgery"])
def test_every_command_with_a_config_lists_its_fields(command):
    found = rows(f"experiments.{command}")
    assert found.keys() == FIELDS.keys()
    assert found["batch_size"][:4] == ["128", "Examples", "of", "one"]
    assert found["optimizer.milestones"][:2] == ["(0.5,", "0.75)"]


def test_with_a_config_they_have_its_values():
    found = rows("experiments.main", "--config=configs/digits_plain20.py", "--config.steps=7")
    assert found["steps"][0] == "7"
    assert found["model.residual"][0] == "False"
    assert found["data.name"][0] == "digits"


@pytest.mark.parametrize("command", ["compare", "export", "sweep"])
def test_commands_that_do_not_train_check_the_cache_of_compiled_programs_too(command, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    result = subprocess.run(
        [sys.executable, "-m", f"experiments.{command}"],
        cwd=ROOT,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert f"other users may write to {tmp_path / 'cache'}" in result.stderr
