"""Nets of a user's own: what is registered, what a run records, and what is refused."""

import hashlib
import json
import pathlib
import subprocess
import sys

import pytest

from resnet_jax import registry
from resnet_jax.config import default, flatten
from resnet_jax.errors import UserError
from resnet_jax.fields import FIELDS
from resnet_jax.registry import Registration
from resnet_jax.rundir import read_config, write_config

ROOT = pathlib.Path(__file__).parents[1]
REGISTERS = """
from resnet_jax import registry

def make():
    pass

registry.register("model.family", "mine", make)
"""


pytestmark = pytest.mark.usefixtures("registrations")


def written(folder, text=REGISTERS, name="net.py"):
    path = folder / name
    path.write_text(text)
    return path


def refused(match):
    return pytest.raises(UserError, match=match)


def run_of(folder, **fields):
    """Return a run directory whose config has ``fields`` of model."""
    config = default()
    config.model.update(fields)
    folder.mkdir()
    write_config(folder, config, ["python"])
    return folder


def test_a_registered_name_is_a_choice_with_its_file_and_digest(tmp_path):
    path = written(tmp_path)
    registry.import_file(path)
    assert FIELDS["model.family"].choices[-1] == "mine"
    values = flatten(default().to_dict())
    assert registry.used_by(values) == []
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert registry.used_by(values | {"model.family": "mine"}) == [
        Registration("model.family", "mine", "net.py", digest)
    ]


def test_a_file_is_executed_once(tmp_path):
    path = written(tmp_path, REGISTERS + "import pathlib\npathlib.Path(__file__).with_name('made').mkdir()")
    registry.import_file(path)
    registry.import_file(path)  # A second time the folder could not be made.
    assert sys.modules["net"].make.__module__ == "net"


def test_the_same_definition_may_be_registered_again_and_no_other(tmp_path):
    registry.import_file(written(tmp_path))
    make = sys.modules["net"].make
    registry.register("model.family", "mine", make)
    with refused(r"config.model.family='mine' has another definition already, registered as .* of net.py \(sha256"):
        registry.register("model.family", "mine", refused)
    written(tmp_path, REGISTERS + "# changed")
    with refused("another definition already.*start Python again"):
        registry.register("model.family", "mine", make)


def test_two_definitions_of_one_file_need_two_names():
    registry.register("model.family", "mine", written)
    with refused("another definition already"):
        registry.register("model.family", "mine", run_of)


@pytest.mark.parametrize(
    ("field", "name", "message"),
    [
        ("model.family", "cifar", "config.model.family='cifar' is a choice of this project; choose another name."),
        ("model.family", "my net", "config.model.family='my net' cannot be registered; name it by letters, digits"),
        ("model.family", 3, "config.model.family=3 cannot be registered"),
        ("model.norm", "mine", "config.model.norm has no choices to register; only model.family and model.block have."),
        ("nothing", "mine", "config.nothing has no choices to register"),
    ],
)
def test_a_name_that_cannot_be_registered_is_refused(field, name, message):
    with refused(message):
        registry.register(field, name, written)


def test_what_no_file_can_define_is_refused():
    with pytest.raises(TypeError, match="neither a class nor a function"):
        registry.register("model.family", "mine", object())


def test_a_definition_without_a_file_has_the_digest_of_its_source_or_none():
    names = {}
    exec("def make(): pass", names)
    assert registry.source_of(names["make"]) == (None, None)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.py", None, r"--import=.*none.py is not a Python file that exists; give one like my_net.py."),
        ("net.txt", REGISTERS, "net.txt is not a Python file that exists"),
        ("my-net.py", REGISTERS, "cannot be a module; rename it to letters, digits and underscores."),
        ("json.py", REGISTERS, "json.py has the name of another module, json; rename the file."),
        ("net.py", "x = 1", "net.py registers nothing; call models.register_block or models.register_family in it"),
        ("net.py", "\n\n1 / 0", "net.py, line 3: ZeroDivisionError: division by zero"),
        ("net.py", "def f():\n    raise ValueError('bad')\n\nf()", "net.py, line 2: ValueError: bad"),
        ("net.py", "x = (", "net.py, line 1: SyntaxError: '\\(' was never closed"),
        ("net.py", "import no_such_module", "net.py, line 1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("net.py", "raise SystemExit(3)", "net.py, line 1: SystemExit: 3"),
        ("net.py", REGISTERS.replace("mine", "cifar"), "net.py, line 7: UserError: config.model.family='cifar' is a"),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused_in_one_message(tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with refused(message):
        registry.import_file(path)
    assert "net" not in sys.modules


def test_a_run_records_the_registrations_that_its_config_uses_and_no_others(tmp_path):
    registry.import_file(written(tmp_path))
    plain, mine = run_of(tmp_path / "plain"), run_of(tmp_path / "run", family="mine")
    assert "registered" not in json.loads((plain / "config.json").read_text())
    [recorded] = json.loads((mine / "config.json").read_text())["registered"]
    assert recorded.keys() == {"field", "name", "file", "sha256"}
    assert read_config(mine).registered == [Registration(**recorded)]


def test_a_run_without_its_registrations_is_refused_unless_only_numbers_are_read(tmp_path):
    registry.import_file(written(tmp_path))
    run = run_of(tmp_path / "run", family="mine")
    registry._REGISTERED.clear()
    with refused(
        rf"{run} uses config.model.family='mine' of net.py \(sha256 \w{{12}}\), which is not registered here; give "
        r"--import=net.py, or in a program import the file."
    ):
        read_config(run)
    assert read_config(run, known=False).config.model.family == "mine"


def test_a_run_of_another_definition_is_refused_where_its_net_is_computed(tmp_path):
    registry.import_file(written(tmp_path))
    run = run_of(tmp_path / "run", family="mine")
    recorded = read_config(run).registered
    registry.check_definitions(recorded, run)
    other = recorded[0]._replace(sha256="0" * 64)
    with refused(
        r"uses config.model.family='mine' of net.py \(sha256 000000000000\), but here it is .* of net.py \(sha256 "
        r"\w{12}\), which may compute something else; give --import=net.py as it was then, or another run directory."
    ):
        registry.check_definitions([other], run)


@pytest.mark.parametrize("registered", [3, [3], [{"field": "model.family"}], [{"field": 1, "name": 2}], "text"])
def test_a_damaged_record_is_refused(tmp_path, registered):
    run = run_of(tmp_path / "run")
    content = json.loads((run / "config.json").read_text()) | {"registered": registered}
    (run / "config.json").write_text(json.dumps(content))
    with refused("is not the config of a run"):
        read_config(run)


def test_a_hostile_record_is_text_and_its_file_is_not_imported(tmp_path):
    run = run_of(tmp_path / "run")
    evil = written(tmp_path, "raise SystemExit('imported')", "evil.py")
    one = {"field": "model.family", "name": "cifar", "file": str(evil), "sha256": None}
    content = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(content | {"registered": [one]}))
    with refused("which is not registered here"):
        read_config(run)
    (run / "config.json").write_text(json.dumps(content | {"registered": [one | {"file": "\x1b[2J"}]}))
    with refused("is not the config of a run"):
        read_config(run)


def test_the_table_of_registrations_needs_no_jax():
    program = "import sys, resnet_jax.registry; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
