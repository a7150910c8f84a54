"""Programs are compiled for devices that are not there, by compilers that `make programs` installs."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from benchmarks import cases, targets
from resnet_jax.errors import UserError

# JAX must not have started, because it is to find neither the devices nor, later, the compilers.
COMPILE = """
import json, pathlib, sys
from benchmarks import measure, programs, targets
from benchmarks.cases import Case
measure.RECORDS = pathlib.Path(sys.argv[1])
target = targets.target(sys.argv[2])
programs.compile_case(target, Case(*json.loads(sys.argv[3])), limit=1200, texts=pathlib.Path(sys.argv[1]))
programs.compile_case(target, Case(*json.loads(sys.argv[3])), limit=1200)
print(json.dumps(programs.recorded(target.name)))
"""


def compiled(target, case, folder):
    """Return what is recorded of ``case`` for ``target``, its text, and what was printed."""
    if not targets.installed(targets.target(target).kind):
        pytest.skip(f"the compiler for {target} is not installed")
    command = [sys.executable, "-c", COMPILE, str(folder), target, json.dumps(case)]
    *printed, records = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    (record,) = json.loads(records)
    (text,) = folder.glob("*.txt")
    return record, text.read_text(), "\n".join(printed)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["gpu:h100:8", "tpu:v5e:2x2"])
def test_a_step_of_residual_20_fits_and_exchanges_its_gradients_once_and_nothing_with_the_host(target, tmp_path):
    record, text, printed = compiled(target, cases.Case("residual-20", 32), tmp_path)
    assert record["memory"]["fits"]
    assert record["host transfers"] == 0
    assert record["loops of unknown length"] == 0
    exchange = record["collectives"].pop("all-reduce")
    assert record["collectives"] == {}
    assert exchange["number"] == 1
    assert exchange["bytes"] == 4 * record["parameters and statistics"] + 8  # The mean loss and error.
    convolutions = 3 * 19 - 1  # By no one is the gradient with respect to the images asked.
    if target.startswith("gpu"):
        assert record["kinds"]["conv_general_dilated"]["kernels"] == convolutions
    # CPUs get convolutions of one pixel and sums over images as products, of which the head alone has any here.
    assert text.count(" dot(") <= 3
    assert "is recorded" in printed  # The second time.


@pytest.mark.slow
def test_pmap_compiles_to_the_same_kernels(tmp_path):
    records = {}
    for mapper in ("shard_map", "pmap"):
        (tmp_path / mapper).mkdir()
        case = cases.Case("residual-20", 32, step="evaluation", mapper=mapper)
        records[mapper], _, _ = compiled("gpu:h100", case, tmp_path / mapper)
    assert records["pmap"]["kinds"] == records["shard_map"]["kinds"]


def test_every_net_has_its_own_name_and_every_program_is_listed_once():
    assert len(cases.NETS) == len(cases.RECIPES)
    listed = cases.cases()
    assert len(set(listed)) == len(listed)
    assert {case.net for case in listed} == set(cases.NETS)


def test_the_compilers_are_of_the_version_of_jax_that_is_tested():
    root = pathlib.Path(__file__).parents[2]
    (jax,) = re.findall(r"^jax==(.*)$", (root / "requirements.lock").read_text(), re.MULTILINE)
    compilers = (root / "benchmarks" / "requirements-programs.txt").read_text()
    assert re.findall(r"^jax-cuda.*==(\S+)$", compilers, re.MULTILINE) == [jax, jax]


@pytest.mark.parametrize("name", ["gpu:v5e", "tpu:h100:2x2", "tpu:v5e", "h100", "gpu:h1000"])
def test_a_name_of_no_target_is_refused_with_names_that_are(name):
    with pytest.raises(UserError, match="gpu:h100:8 or tpu:v5e:2x2, with a chip of h100, h200, a100, v4, v5e"):
        targets.target(name)


def test_a_missing_compiler_is_named_with_the_way_to_it(monkeypatch, tmp_path):
    monkeypatch.setattr(targets, "COMPILERS", tmp_path)
    with pytest.raises(UserError, match=r"the compiler for gpu:h100 is not in .*; `make programs` installs it"):
        targets.target("gpu:h100").devices()
