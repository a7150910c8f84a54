"""Reading a run executes nothing from it; loading a config file is the one thing that does execute."""

import ast
import json
import pathlib
import shutil

import pytest

from tests.analysis.measured import measure
from tests.analysis.synthetic import write_run
from tests.data.conftest import tiny_splits, write_set
from tests.promises.runs import ROOT, SETTINGS

# What turns bytes into code.
UNSAFE_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}

# Refuses what unpickling does.
READ = """
import pathlib, sys

def refuse(event, arguments):
    if event == "pickle.find_class":
        raise SystemExit(f"{event} {arguments}")

sys.addaudithook(refuse)
from resnet_jax.backend import set_xla_flags
set_xla_flags()
from configs import recipes
from resnet_jax.analysis import runs
from resnet_jax.safe_files import read_json
from resnet_jax.training import first_layer, train
from resnet_jax.training.program import make_program
from resnet_jax.training.checkpoints import Checkpoints

config = recipes.digits(depth=8, residual=True)
config.update_from_flattened_dict(SETTINGS)
folder = pathlib.Path(WORKDIR)
assert runs.read_run(folder).metrics
config.steps = 12
with Checkpoints(folder / "checkpoints") as checkpoints:
    state, _ = checkpoints.restore(make_program(config, 10).init((8, 8, 1)))
assert int(state.step) == 12
print("read")
"""


def python_files(*folders):
    return [path for folder in folders for path in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize(
    "path", python_files("resnet_jax", "experiments"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_code_that_could_execute_data(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not UNSAFE_MODULES & {name.name.partition(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in UNSAFE_MODULES
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", None)
            assert name not in UNSAFE_CALLS or path.name == "user_file.py"  # It executes the files that the user gives.
            if ast.unparse(node.func) == "np.load":
                assert "allow_pickle=False" in ast.unparse(node)
            if ast.unparse(node.func) == "torch.load":
                assert "weights_only=True" in ast.unparse(node)


def test_a_run_directory_is_read_and_its_weights_restored_without_unpickling(commands, whole):
    program = READ.replace("SETTINGS", repr(SETTINGS)).replace("WORKDIR", repr(str(whole)))
    done = commands("", program=program)
    assert done.stdout == "read\n", done.stderr


def test_the_hook_above_would_see_unpickling(commands):
    hook, _, _ = READ.partition("from resnet_jax")
    done = commands("", program=f"{hook}import pickle; pickle.loads(pickle.dumps(print)); print('read')")
    assert "read" not in done.stdout


def test_a_config_json_with_code_is_text(commands, whole, tmp_path):
    """Compared with the config of the command, it is found to be another."""
    shutil.copytree(whole, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    content = json.loads(path.read_text())
    content["config"]["data"]["name"] = "__import__('pathlib').Path('made').touch()"
    path.write_text(json.dumps(content))
    commands("compare", tmp_path)
    assert not pathlib.Path(ROOT, "made").exists()


@pytest.fixture(scope="module")
def theirs(whole, tmp_path_factory):
    """Return a working directory with the folder of a stranger: a run, its data set, and code that the data set names.

    Executed, the code leaves the file "executed" in the working directory.
    """
    here = tmp_path_factory.mktemp("here")
    run = here / "theirs" / "run"
    shutil.copytree(whole, run)
    content = json.loads((run / "config.json").read_text())
    content["config"]["data"] |= {"name": "tiny", "data_dir": "theirs/tfds"}
    (run / "config.json").write_text(json.dumps(content))
    (run / "identity.json").unlink()  # Else the changed config is refused, and the data set not even opened.
    (here / "theirs" / "evil.py").write_text("import pathlib; pathlib.Path('executed').touch()\n")
    features = write_set(here / "theirs" / "tfds", "tiny", tiny_splits()) / "features.json"
    content = json.loads(features.read_text())
    content["featuresDict"]["features"]["more"] = {"pythonClassName": "theirs.evil.Evil", "text": {}}
    features.write_text(json.dumps(content))
    return here


COMMANDS = {
    "evaluate": ("evaluate", "--run=theirs/run"),
    "start from it": ("main", f"--config={ROOT}/configs/digits_resnet20.py", "--from=theirs/run"),
    "train its config": ("main", f"--config={ROOT}/configs/digits_resnet20.py", "--workdir=new"),
    "diagnose": ("diagnose", "theirs/run"),
    "export": ("export", "--run=theirs/run"),
    "surgery": ("surgery", "fold_norms", "--run=theirs/run", "--out=new"),
}


# Runs a command in another working directory, from which modules can be imported.
THERE = """
import os, runpy, sys
os.chdir({folder!r})
sys.path.insert(0, "")
runpy.run_module("experiments.{command}", run_name="__main__", alter_sys=True)
"""


def test_in_their_working_directory_the_code_could_be_executed(commands, theirs):
    program, _, _ = THERE.format(folder=str(theirs), command="").partition("runpy.run_module")
    commands("", program=f"{program}import theirs.evil")
    assert (theirs / "executed").exists()
    (theirs / "executed").unlink()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name != "evaluate" else ()) for name in COMMANDS]
)
def test_no_command_executes_code_that_the_data_set_of_a_run_names(commands, theirs, name):
    command, *words = COMMANDS[name]
    if command == "main":
        words += ["--config.data.name=tiny", "--config.data.data_dir=theirs/tfds"]
    result = commands(command, *words, program=THERE.format(folder=str(theirs), command=command))
    assert not (theirs / "executed").exists(), "the code was executed"
    assert result.returncode == 2
    assert "names the class 'theirs.evil.Evil', which is not one of TFDS's own features" in result.stderr


@pytest.mark.slow
def test_hostile_names_are_shown_as_text_by_every_command_that_shows_runs(commands, tmp_path):
    names = ["[/x]", "$\\frac{$", "a\x1b[2J\x9b1mb", "<img src=x>", "![x](http://tracker.example/x.png)", "\udcff"]
    folder = tmp_path / "sweep [/y]"
    for seed, name in enumerate(names):
        write_run(folder / name.replace("/", "\u2215"), 20, False, 0.1, seed, status="finished" if seed else None)
        measure(folder / name.replace("/", "\u2215"), False, 20, seed, 2)
    write_run(folder / "x", 20, False, 0.1, 9, data__name="$\\frac{$ [/x] <img src=x> \x1b[2J")
    write_run(folder / "y", 20, False, 0.1, 9)
    content = {
        "file": "x.py",
        "question": "![x](http://tracker.example/x.png) <script>",
        "command": ["```", "[/x]\x1b"],
    }
    (folder / "sweep.json").write_text(json.dumps(content | {"runs": {"x": {}, "y": {}, "[x]": {}}}))
    out = tmp_path / "out"
    for words in (
        ("compare", folder),
        ("why", folder, f"--out={out}"),
        ("publish", folder, f"--out={tmp_path / 'page'}"),
    ):
        done = commands(*words)
        assert done.returncode == 0, done.stderr
        for said in (done.stdout, done.stderr):
            assert all(each.isprintable() for each in said.replace("\n", "")), said
    for page in (out / "why.md", tmp_path / "page" / "README.md", folder / "comparison" / "table.md"):
        text = page.read_text(encoding="utf-8").replace("\\[", "")
        assert not [harm for harm in ("<img", "<script", "](http", "\x1b") if harm in text], page
