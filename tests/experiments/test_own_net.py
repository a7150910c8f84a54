"""A net of the user's own on the command line: docs/examples/own_net.py is trained, counted, swept and looked into."""

import json
import pathlib
import shutil

import pytest

pytestmark = [pytest.mark.xdist_group("own_net"), pytest.mark.slow]  # One run serves many tests.
ROOT = pathlib.Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "own_net.py"
IMPORT = "--import=docs/examples/own_net.py"
CONFIG = (
    "--config=configs/digits_plain20.py",
    "--config.model.family=own_net",
    "--config.model.depth=4",
    "--config.batch_size=16",
    "--config.steps=4",
    "--config.log_every=2",
)
SWEEP = '''"""Does a net of my own degrade?"""

from configs import recipes
from resnet_jax.sweeps.grid import axis


def get_config():
    config = recipes.digits(depth=4, residual=True, family="own_net")
    config.batch_size = 16
    config.steps = 2
    return config


def get_sweep():
    return axis("model.depth", [4, 5])
'''
UNREGISTERED = "uses config.model.family='own_net' of own_net.py (sha256 "


@pytest.fixture(scope="module")
def run(commands, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"
    result = commands("main", IMPORT, *CONFIG, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    return workdir


@pytest.fixture(scope="module")
def swept(commands, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "mine.py").write_text(SWEEP)
    flags = (f"--config={folder / 'mine.py'}", f"--folder={folder / 'runs'}")
    return flags, folder / "runs", commands("sweep", IMPORT, *flags)


def test_the_example_is_short():
    assert len(EXAMPLE.read_text().splitlines()) < 40


def test_a_run_records_the_file_and_resumes_only_with_it(commands, run, tmp_path):
    [recorded] = json.loads((run / "config.json").read_text())["registered"]
    assert (recorded["name"], recorded["file"], len(recorded["sha256"])) == ("own_net", "own_net.py", 64)
    assert commands("main", IMPORT, *CONFIG, f"--workdir={run}").returncode == 0
    refused = commands("main", *CONFIG, f"--workdir={run}")
    assert refused.returncode == 2
    assert refused.stderr.endswith("inception_resnet_v2_paper. Give a file that registers your own by --import=FILE.\n")
    other = tmp_path / "own_net.py"
    other.write_text(EXAMPLE.read_text() + "# changed\n")
    refused = commands("main", f"--import={other}", *CONFIG, f"--workdir={run}")
    assert refused.returncode == 2
    assert "which may compute something else; give --import=own_net.py as it was then" in refused.stderr


def test_a_stopped_run_is_resumed_to_the_same_numbers(commands, run, tmp_path):
    workdir = tmp_path / "run"
    every = "--config.checkpoint_every=2"
    assert commands("main", IMPORT, *CONFIG, every, f"--workdir={workdir}").returncode == 0
    shutil.rmtree(workdir / "checkpoints" / "4")
    (workdir / "summary.json").unlink()
    assert commands("main", IMPORT, *CONFIG, every, f"--workdir={workdir}").returncode == 0
    ends = [json.loads((each / "summary.json").read_text())["final"] for each in (run, workdir)]
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("evaluate", "--run={}"), "plain own_net-4"),
        (("compare", "{}", "--out={}/comparison"), "plain own_net-4"),
        (("diagnose", "{}", "--only=gradients", "--at=end"), "Added to diagnosis/: 1 measurement, of 1 net"),
        (("export", "--run={}", "--format=stablehlo"), "Exported plain own_net-4"),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else "",
)
def test_a_command_reads_the_run_with_the_file_and_says_without_it_what_is_missing(commands, run, words, says):
    name, *words = (word.format(run) for word in words)
    result = commands(name, IMPORT, *words)
    assert result.returncode == 0, result.stderr
    assert says in result.stdout
    result = commands(name, *words)
    assert result.returncode == 2
    assert UNREGISTERED in result.stderr
    assert "give --import=own_net.py, or in a program import the file." in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("export", "--run={}"), "family 'own_net' has no PyTorch names"),
        (("surgery", "to_residual", "--run={}", "--out={}/new"), "surgery is for plain and residual nets; use one of"),
        (
            ("main", *CONFIG, "--config.model.residual=True", "--config.gates.route=stop_gradient", "--workdir={}/new"),
            "needs blocks with shortcuts, which own_net-4 does not have",
        ),
    ],
    ids=["export", "surgery", "gates"],
)
def test_what_does_not_apply_says_so(commands, run, words, message):
    name, *words = (word.format(run) for word in words)
    result = commands(name, IMPORT, *words)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]


def test_another_run_starts_from_it(commands, run, tmp_path):
    result = commands("main", IMPORT, *CONFIG, "--config.seed=1", f"--from={run}", f"--workdir={tmp_path / 'next'}")
    assert result.returncode == 0, result.stderr


def test_all_runs_of_a_sweep_have_the_file(commands, swept):
    flags, folder, result = swept
    assert result.returncode == 0, result.stderr
    assert {path.parent.name for path in folder.glob("*/summary.json")} == {"own_net-4", "own_net-5"}
    assert IMPORT in json.loads((folder / "sweep.json").read_text())["command"]
    command = json.loads((folder / "own_net-4" / "config.json").read_text())["command"]
    assert f"--import={EXAMPLE}" in command
    listed = commands("sweep", IMPORT, *flags, "--dry_run")
    assert listed.stdout.count("finished") == 2
    refused = commands("sweep", *flags, "--dry_run")
    assert refused.returncode == 2
    assert "Give a file that registers your own by --import=FILE." in refused.stderr


def test_its_depths_are_compared_and_its_progress_needs_no_file(commands, swept):
    _, folder, _ = swept
    result = commands("compare", IMPORT, folder)
    assert result.returncode == 0, result.stderr
    assert "own_net" in result.stdout
    assert "No verdict" not in result.stdout
    watched = commands("sweep", f"--folder={folder}", "--watch")
    assert watched.returncode == 0
    assert watched.stdout.count("finished") >= 2
