"""The command as a user types it: what it says and its exit status."""

import functools
import json
import pathlib
import subprocess
import sys

import pytest

from experiments.main import default_workdir
from tests.experiments.conftest import SMALL

pytestmark = pytest.mark.xdist_group("commands")  # One run serves many tests.
ROOT = pathlib.Path(__file__).parents[2]
CONFIG = "--config=configs/digits_plain20.py"


@pytest.fixture(scope="module")
def run(commands):
    return functools.partial(commands, "main")


# Trains, and prints whether TensorFlow was imported.
WITHOUT_TENSORFLOW = """
import runpy, sys
try:
    runpy.run_module("experiments.main", run_name="__main__", alter_sys=True)
finally:
    print("TensorFlow", "tensorflow" in sys.modules)
"""


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    """Return the workdir of a finished run and the result of its command."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    return workdir, run(CONFIG, *SMALL, f"--workdir={workdir}", program=WITHOUT_TENSORFLOW)


def test_a_run_exits_with_0_leaves_its_records_and_never_imports_tensorflow(finished):
    workdir, result = finished
    assert result.returncode == 0, result.stderr
    assert json.loads((workdir / "summary.json").read_text())["status"] == "finished"
    recorded = json.loads((workdir / "config.json").read_text())
    assert recorded["config"]["model"]["depth"] == 8
    assert "--config.model.depth=8" in recorded["command"]
    assert "finished after 4 steps" in result.stdout
    assert str(workdir) in result.stdout.replace("\n", "")
    assert "step 4/4 (100.0%)" in result.stderr
    assert result.stdout.endswith("\nTensorFlow False\n")


def test_the_same_command_again_finds_the_finished_run(run, finished):
    workdir, first = finished
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    result = run(CONFIG, *SMALL, f"--workdir={workdir}")
    assert result.returncode == 0
    assert result.stdout + "TensorFlow False\n" == first.stdout
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before


def test_another_config_in_the_same_workdir_is_refused_and_overwrites_nothing(run, finished):
    workdir, _ = finished
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    result = run(CONFIG, *SMALL, "--config.seed=3", f"--workdir={workdir}")
    assert result.returncode == 2
    assert "differing in config.seed (0 there, 3 here); give another --workdir or the same config" in result.stderr
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("words", "message"),  # Mistakes in fields are in tests/promises/test_bad_input.py.
    [
        ([], "--config is missing; give one, e.g. --config=configs/digits_plain20.py."),
        ([CONFIG, "--workdir=/proc/run"], "/proc/run cannot be written"),
        ([CONFIG, "--wrong=1"], "Unknown command line flag 'wrong'"),
        ([CONFIG, "word"], "unexpected argument 'word'; flags take the form --name=value, see --help."),
        (["--config.seed=1", CONFIG], "Found --config.seed=1 in argv before a value for --config was specified"),
    ],
)
def test_a_mistake_is_refused_in_one_line_with_exit_status_2(run, words, message, tmp_path):
    workdir = [] if any("workdir" in word for word in words) else [f"--workdir={tmp_path / 'run'}"]
    result = run(*words, *workdir)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert not (tmp_path / "run").exists()


def test_help_explains_itself_and_exits_with_0(run):
    result = run("--help")
    assert result.returncode == 0
    for part in ("--config=configs/cifar_plain56.py", "--workdir", "--[no]describe", "Exit status"):
        assert part in result.stdout


def test_describe_prints_the_architecture_and_trains_nothing(run, tmp_path):
    result = run(CONFIG, "--config.data.name=cifar10", "--describe", f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 0
    names = "9 blocks: stage1/block0 to stage1/block2, stage2/block0 to stage2/block2, stage3/block0 to stage3/block2"
    for part in ("stage3", "8x8x64", "269,722", "multiply-adds", names):
        assert part in result.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_ctrl_c_saves_the_run_and_the_same_command_resumes_it(tmp_path):
    words = (CONFIG, *SMALL, "--config.steps=1000000", f"--workdir={tmp_path / 'run'}")
    command = [sys.executable, "-m", "experiments.main", *map(str, words)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "step 2/" in line:
                break
        process.send_signal(2)
        stdout, _ = process.communicate()
    assert process.returncode == 75
    assert "The same command resumes it." in stdout
    stopped = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert stopped["status"] == "preempted"
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        resumed = next(line for line in process.stderr if "resuming" in line)
        process.send_signal(2)
        process.communicate()
    assert f"resuming after step {stopped['steps']} of 1000000" in resumed


def test_the_default_workdir_is_named_by_config_and_overrides():
    name = default_workdir("configs/cifar_plain56.py", {"model.depth": 110, "seed": 3, "data.data_dir": "/data"})
    assert name == pathlib.Path("runs/cifar_plain56-depth=110-seed=3")
    assert default_workdir("configs/cifar_plain56.py", {}) == pathlib.Path("runs/cifar_plain56")
    many = {"gates.shortcut_factor": (1,) * 14 + (0,) * 13}
    assert default_workdir("c.py", many) == pathlib.Path("runs/c-shortcut_factor=14x1 13x0")
    assert default_workdir("c.py", {"data.name": "emnist/digits"}).parent == pathlib.Path("runs")
    assert default_workdir("c.py", {"from_run": "runs/a/b"}) == pathlib.Path("runs/c-from_run=runs_a_b")
