"""What all commands share."""

import pathlib

import pytest

from resnet_jax.fields import FIELDS

ROOT = pathlib.Path(__file__).parents[2]


CONFIG = "--config=configs/digits_plain20.py"


@pytest.fixture
def rows(commands):
    """Return a function of a command line that returns the rows of the table printed by --fields, by their field."""

    def rows(*words):
        result = commands(*words, "--fields")
        assert (result.returncode, result.stderr) == (0, "")
        lines = [line for line in result.stdout.splitlines() if line[1:2].strip()]  # The others continue a row.
        return {line.split()[0]: line.split()[1:] for line in lines if line.split()[0] in FIELDS}

    return rows


@pytest.mark.parametrize("command", ["main", "sweep", "evaluate", "prepare", "surgery"])
def test_every_command_with_a_config_lists_its_fields(rows, command):
    found = rows(command)
    assert found.keys() == FIELDS.keys()
    assert found["batch_size"][:4] == ["128", "Examples", "of", "one"]
    assert found["optimizer.milestones"][:2] == ["(0.5,", "0.75)"]


def test_with_a_config_on_the_command_line_or_in_a_file_of_flags_they_have_its_values(rows, tmp_path):
    words = (CONFIG, "--config.model.depth=8", "--config.steps=7")
    (tmp_path / "flags.txt").write_text("\n".join(words))
    for found in (rows("main", *words), rows("main", f"--flagfile={tmp_path / 'flags.txt'}")):
        values = [found[name][0] for name in ("steps", "model.depth", "model.residual", "data.name")]
        assert values == ["7", "8", "False", "digits"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("main", [CONFIG, "--workdir=URL"]),
        ("main", [CONFIG, "--from=URL"]),
        ("main", [CONFIG, "--import=URL"]),
        ("sweep", ["--config=configs/sweeps/digits_depth.py", "--folder=URL"]),
        ("evaluate", ["--run=runs/a", "--run=URL"]),
        ("evaluate", [CONFIG, "--weights=URL"]),
        ("evaluate", ["--run=runs/a", "--output=URL"]),
        ("evaluate", ["--run=runs/a", "--predictions=URL"]),
        ("export", ["--run=URL"]),
        ("export", ["--run=runs/a", "--output=URL"]),
        ("surgery", ["to_plain", "--run=runs/a", "--out=URL"]),
        ("diagnose", ["URL"]),
        ("diagnose", ["runs/a", "--data_dir=URL"]),
        ("compare", ["URL"]),
        ("compare", ["runs/a", "--out=URL"]),
        ("publish", ["URL"]),
        ("why", ["runs/a", "URL"]),
        ("prepare", [CONFIG, "--manual_dir=URL"]),
    ],
)
def test_no_command_takes_a_url_for_a_path(commands, command, words, tmp_path, monkeypatch):
    words = [word.replace("URL", "gs://bucket/a") for word in words]
    done = commands(command, *words)
    [given] = [word for word in words if "gs:" in word]
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {given} is a URL; give a path on this machine, such as the folder where that storage is mounted.\n"
    )
    assert not (ROOT / "gs:").exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("compare", ["~/nowhere"]),
        ("publish", ["~/nowhere"]),
        ("export", ["--run=~/nowhere"]),
        ("evaluate", ["--run=~/nowhere"]),
        ("main", ["--config=~/nowhere"]),
        ("main", [CONFIG, "--import=~/nowhere"]),
        ("sweep", ["--folder=~/nowhere", "--watch"]),
    ],
)
def test_a_tilde_stands_for_the_home_folder(commands, command, words, tmp_path):
    done = commands(command, *words, HOME=str(tmp_path))
    assert done.returncode == 2
    assert f"{tmp_path}/nowhere" in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"--config=configs/nope.py", "--config=configs/nope.py: no such file;"),
        (f"{CONFIG}\n--config.model.dept=8".encode(), "unknown field config.model.dept;"),
        (b"--workdir=gs://bucket", "--workdir=gs://bucket is a URL;"),
        (b"\xff", "--flagfile cannot be read: 'utf-8' codec can't decode"),
    ],
)
def test_a_mistake_in_a_file_of_flags_is_reported_as_on_the_command_line(commands, tmp_path, content, message):
    (tmp_path / "flags.txt").write_bytes(content + b"\n")
    done = commands("main", f"--flagfile={tmp_path / 'flags.txt'}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"error: {message}")


UNREAD = """
import os, runpy
{redirect}
runpy.run_module("experiments.main", run_name="__main__", alter_sys=True)
"""
BROKEN_PIPE = "reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 1); os.dup2(writer, 2)"
FULL = "full = os.open('/dev/full', os.O_WRONLY); os.dup2(full, 1); os.dup2(full, 2)"


@pytest.mark.parametrize("redirect", [BROKEN_PIPE, FULL, "os.close(1)"], ids=["head", "full", "closed"])
def test_output_that_nobody_reads_does_not_change_the_status(commands, redirect):
    if redirect == FULL and not pathlib.Path("/dev/full").exists():
        pytest.skip("has no full device")
    program = UNREAD.format(redirect=redirect)
    assert commands("main", CONFIG, "--fields", program=program).returncode == 0
    assert commands("main", "--config=configs/nope.py", program=program).returncode == 2


def test_without_a_home_folder_there_is_no_cache_and_everything_else_works(commands, tmp_path):
    program = """
import os, pwd, runpy
del os.environ["HOME"], os.environ["XDG_CACHE_HOME"], os.environ["JAX_COMPILATION_CACHE_DIR"]
def getpwuid(uid):
    raise KeyError(uid)
pwd.getpwuid = getpwuid
runpy.run_module("experiments.main", run_name="__main__", alter_sys=True)
"""
    words = [CONFIG, "--config.model.depth=8", "--config.steps=1", "--config.batch_size=8", "--from=runs/none"]
    done = commands("main", *words, f"--workdir={tmp_path / 'run'}", program=program)
    assert done.returncode == 2
    assert "compiled programs are not cached: this user has no home folder; set XDG_CACHE_HOME" in done.stderr
    assert "error: config.from_run=runs/none" in done.stderr


@pytest.mark.parametrize("command", ["compare", "export", "sweep"])
def test_commands_that_do_not_train_check_the_cache_of_compiled_programs_too(commands, command, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    result = commands(command, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "cache"))
    assert result.returncode == 2
    assert f"other users may write to {tmp_path / 'cache'}" in result.stderr
