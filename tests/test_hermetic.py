"""The suite finds no cluster, credentials or home of its user, and the processes that it starts do not either."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests import hermetic

ROOT = pathlib.Path(__file__).parents[1]


def write_tool(folder, name):
    """Write a program that leaves a file next to it when it is run."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text('#!/bin/sh\ntouch "$0.was_run"\necho "Submitted batch job 1"\n')
    (folder / name).chmod(0o755)


@pytest.mark.slow
def test_on_a_machine_with_slurm_nothing_is_submitted(tmp_path):
    """A suite of its own, with all of Slurm's commands in PATH, runs the test that asks for Slurm."""
    for tool in hermetic.SLURM:
        write_tool(tmp_path / "bin", tool)
    environment = {name: value for name, value in os.environ.items() if name != "RESNET_JAX_TESTS"}
    environment |= {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{environment['PATH']}", "SLURM_JOB_ID": "1"}
    test = "tests/sweeps/test_slurm.py::test_without_slurm_the_way_out_is_reported"
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", test]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "bin").glob("*.was_run")) == []


def test_what_belongs_to_the_user_is_not_found(tmp_path):
    write_tool(tmp_path / "bin", "sbatch")
    write_tool(tmp_path / "bin", "other")
    (tmp_path / "empty").mkdir()
    environment = {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{tmp_path / 'empty'}",
        "HOME": "/home/user",
        "SLURM_JOB_ID": "1",
        "GOOGLE_APPLICATION_CREDENTIALS": "/home/user/key.json",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "KAGGLE_KEY": "secret",
        "TPU_NAME": "mine",
        "JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234",
        "TFDS_DATA_DIR": "/given",
        "LANG": "C",
    }
    hermetic.seal(environment, tmp_path / "sealed")
    assert shutil.which("sbatch", path=environment["PATH"]) is None
    assert shutil.which("other", path=environment["PATH"]) is not None
    assert str(tmp_path / "empty") in environment["PATH"]
    changed = {"PATH", "HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "MPLCONFIGDIR"}
    assert environment.keys() == changed | {"TFDS_DATA_DIR", "LANG"}
    for name in changed - {"PATH"}:
        assert pathlib.Path(environment[name]).is_relative_to(tmp_path / "sealed")


def test_this_session_is_sealed():
    assert [tool for tool in hermetic.TOOLS if shutil.which(tool)] == []
    session = pathlib.Path(os.environ["RESNET_JAX_TESTS"])
    assert pathlib.Path.home().is_relative_to(session)
    assert not [name for name in os.environ if name.startswith(("SLURM_", "GOOGLE_", "AWS_", "KAGGLE_"))]


@pytest.mark.xdist_group("together")
def test_tests_of_a_group_run_in_one_process(request):
    """pytest-xdist groups tests by a suffix of their names, which not every pytest lets it set."""
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("groups are for sessions of several processes")
    assert request.node.nodeid.endswith("@together")
