"""What all commands share."""

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
