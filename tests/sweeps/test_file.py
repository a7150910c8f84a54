"""Sweep files: which files are accepted, and the messages about mistakes."""

import pytest

from resnet_jax.errors import UserError
from resnet_jax.sweeps import file as sweep_file
from resnet_jax.sweeps.grid import tuned_fields

BEGIN = '"""Why?"""\nfrom resnet_jax.sweeps.grid import axis, tuned\n\n'


def write(tmp_path, text):
    (tmp_path / "s.py").write_text(BEGIN + text)
    return str(tmp_path / "s.py")


@pytest.mark.parametrize(
    "body",
    [
        'return axis("seed", range(3))',
        'yield from axis("seed", range(3))',
        'return iter(axis("seed", range(3)))',
        'return tuple(axis("seed", range(3)))',
        'return ({"seed": seed} for seed in range(3))',
        "run = {}\n    for run['seed'] in range(3):\n        yield run",
    ],
)
def test_a_list_a_generator_or_any_other_iterable_of_overrides_is_a_sweep(tmp_path, body):
    read = sweep_file.read(write(tmp_path, f"def get_sweep():\n    {body}\n"))
    assert read.sweep == [{"seed": seed} for seed in range(3)]
    assert (read.question, read.literature) == ("Why?", {})
    assert read.where == f"--config={tmp_path / 's.py'}, line 4"


def test_the_option_behind_the_colon_is_given_to_the_sweep(tmp_path):
    file = write(tmp_path, 'def get_sweep(depth="20"):\n    yield {"model.depth": int(depth)}\n')
    assert sweep_file.read(file).sweep == [{"model.depth": 20}]
    assert sweep_file.read(f"{file}:56").sweep == [{"model.depth": 56}]


def test_a_tuned_field_stays_one(tmp_path):
    read = sweep_file.read(write(tmp_path, 'def get_sweep():\n    yield from tuned("optimizer.momentum", [0.5])\n'))
    assert tuned_fields(read.sweep) == ["optimizer.momentum"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_sweep():\n    return None\n", ", line 4: get_sweep() returns None; it must return a list, or yield,"),
        ("def get_sweep():\n    return 3\n", ", line 4: get_sweep() returns 3; it must"),
        ("def get_sweep():\n    return {'seed': 1}\n", ", line 4: get_sweep() returns {'seed': 1}; it must"),
        ("def get_sweep():\n    return 'seed'\n", ", line 4: get_sweep() returns 'seed'; it must"),
        ("def get_sweep():\n    return [1, 2]\n", ", line 4: run 1 of get_sweep() is 1; it must"),
        ("def get_sweep():\n    return [{}, None]\n", ", line 4: run 2 of get_sweep() is None; it must"),
        ("def get_sweep():\n    return ['seed']\n", ", line 4: run 1 of get_sweep() is 'seed'; it must"),
        (
            "def get_sweep():\n    return [axis('seed', [1])]\n",
            ", line 4: run 1 of get_sweep() is ({'seed': 1},); it must",
        ),
        ("def get_sweep():\n    return [{1: 2}]\n", ", line 4: run 1 of get_sweep() is {1: 2}; it must"),
        ("def get_sweep():\n    return []\n", ", line 4: get_sweep() returns no runs; it must"),
        ("def get_sweep():\n    yield from ()\n", ", line 4: get_sweep() returns no runs; it must"),
        (
            "def get_sweep():\n    while True:\n        yield {}\n",
            ", line 4: get_sweep() returns more than 10,000 runs;",
        ),
        ("def get_sweep():\n    return 1 / 0\n", ", line 5: ZeroDivisionError: division by zero."),
        ("def get_sweep():\n    yield {}\n    1 / 0\n", ", line 6: ZeroDivisionError: division by zero."),
        ("def get_sweep():\n    exit(0)\n", ", line 5: SystemExit: 0."),
        ("def get_sweep():\n    raise BaseException\n", ", line 5: BaseException."),
        ("def get_sweep():\n    return axis('seed', 3)\n", ", line 5: TypeError: 'int' object is not iterable."),
        (
            "def get_sweep(option):\n    return [{}]\n",
            ": TypeError: get_sweep() missing 1 required positional argument",
        ),
        ("get_sweep = 3\n", " is not a sweep: it has no get_sweep();"),
        ("x = 1\n", " is not a sweep: it has no get_sweep();"),
        ("import sys\nsys.exit()\n", ", line 5: SystemExit."),
        ("import no_such\n", ", line 4: ModuleNotFoundError: No module named 'no_such'."),
        ("def get_sweep(:\n", ", line 4: SyntaxError: invalid syntax."),
        ("def get_sweep():\n return 1\n  return 2\n", ", line 6: IndentationError: unexpected indent."),
    ],
)
def test_a_mistake_is_one_message_with_file_and_line(tmp_path, text, message):
    file = write(tmp_path, text)
    with pytest.raises(UserError) as raised:
        sweep_file.read(file)
    assert str(raised.value).startswith(f"--config={file}{message}")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "s.py").write_bytes(b"x = '\xff'\n")
    with pytest.raises(UserError, match="SyntaxError"):
        sweep_file.read(str(tmp_path / "s.py"))


def test_a_file_is_executed_as_it_is_now_not_as_it_was_compiled_before(tmp_path):
    for depth in (20, 56):
        file = write(tmp_path, f"def get_sweep():\n    yield {{'model.depth': {depth}}}\n")
        assert sweep_file.read(file).sweep == [{"model.depth": depth}]


@pytest.mark.parametrize(
    ("given", "has_workdir", "is_one"),
    [
        ({"seed", "model.depth"}, False, True),
        ({"seed", "model.depth", "steps"}, False, True),
        ({"seed"}, True, False),
        (set(), False, False),
    ],
)
def test_a_sweep_file_is_a_config_only_for_one_of_its_runs(tmp_path, given, has_workdir, is_one):
    file = write(tmp_path, "def get_sweep():\n    return [{'seed': 1, 'model.depth': 20}]\n")
    if is_one:
        sweep_file.check_is_config(file, given, has_workdir)
    else:
        with pytest.raises(UserError, match=r"is a sweep file; train its 1 runs with python -m experiments\.sweep"):
            sweep_file.check_is_config(file, given, has_workdir)


def test_a_run_without_overrides_is_known_by_its_workdir(tmp_path):
    file = write(tmp_path, "def get_sweep():\n    return [{}, {'seed': 1}]\n")
    sweep_file.check_is_config(file, set(), has_workdir=True)
    with pytest.raises(UserError, match="is a sweep file"):
        sweep_file.check_is_config(file, set(), has_workdir=False)


def test_a_config_is_no_sweep(tmp_path):
    sweep_file.check_is_config(write(tmp_path, "def get_config():\n    return None\n"), set(), has_workdir=False)
