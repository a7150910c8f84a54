"""Programs are compiled for devices that are not there, by compilers that `make programs` installs."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from benchmarks.programs import cases, targets
from resnet_jax.errors import UserError
from resnet_jax.training import parallel

EVALUATION = cases.Case("residual-20", 32, step="evaluation")
# In a process of its own, because JAX can be started in one way only.
COMPILE = """
import json, pathlib, sys
from benchmarks import measure
from benchmarks.programs import __main__ as programs, cases, targets
folder, target, case, limit = sys.argv[1:]
measure.RECORDS = texts = pathlib.Path(folder)
programs.compile_case(targets.target(target), cases.Case(*json.loads(case)), float(limit), texts)
"""


def compile_case(folder, target, case, limit=1200.0):
    """Compile ``case``; return its record and the output."""
    if not targets.installed(targets.target(target).kind):
        pytest.skip(f"the compiler for {target} is not installed; `make programs` installs it")
    command = [sys.executable, "-c", COMPILE, str(folder), target, json.dumps(case), str(limit)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (record,) = folder.glob("*.json")
    (program,) = json.loads(record.read_text())["results"]["programs"]
    return program, printed


@pytest.mark.slow
@pytest.mark.parametrize("target", ["gpu:h100:8", "tpu:v5e:2x2"])
def test_a_step_of_residual_20_fits_and_exchanges_its_gradients_once_and_nothing_with_the_host(target, tmp_path):
    blocks = "looped" if target.startswith("tpu") else "usual"  # Unrolled it compiles twice as long for a TPU.
    program, _ = compile_case(tmp_path, target, cases.Case("residual-20", 32, blocks))
    assert program["memory"]["fits"]
    assert program["host transfers"] == 0
    assert program["loops of unknown length"] == 0
    assert program["collectives"].keys() == {"all-reduce"}
    exchange = program["collectives"]["all-reduce"]
    assert exchange["number"] == 1
    assert exchange["bytes"] == 4 * program["parameters and statistics"] + 8  # Loss and error.
    if target.startswith("gpu"):
        # The first convolution has no gradient by its input.
        assert program["kinds"]["conv_general_dilated"]["kernels"] == 3 * 19 - 1
        # Convolutions for CPUs are products of matrices; here only the head has one.
        (text,) = tmp_path.glob("*.txt")
        assert text.read_text().count(" dot(") <= 3


@pytest.mark.slow
def test_pmap_compiles_to_the_same_kernels_and_nothing_is_compiled_twice(tmp_path):
    programs = []
    for mapper in ("shard_map", "pmap"):
        (tmp_path / mapper).mkdir()
        program, printed = compile_case(tmp_path / mapper, "gpu:h100", EVALUATION._replace(mapper=mapper))
        assert "is recorded" not in printed
        programs.append(program)
    assert programs[0]["kinds"] == programs[1]["kinds"]
    again, printed = compile_case(tmp_path / "pmap", "gpu:h100", EVALUATION._replace(mapper="pmap"))
    assert again == programs[1]
    assert "is recorded" in printed


@pytest.mark.slow
def test_a_program_that_takes_too_long_is_given_up_and_tried_again_with_more_time(tmp_path):
    program, _ = compile_case(tmp_path, "gpu:h100", EVALUATION, limit=0.2)
    assert program["not compiled within (s)"] == 0.2
    assert "kernels" not in program
    _, printed = compile_case(tmp_path, "gpu:h100", EVALUATION, limit=0.1)
    assert "is recorded" in printed
    program, _ = compile_case(tmp_path, "gpu:h100", EVALUATION)
    assert program["kernels"] > 19
    assert "not compiled within (s)" not in program


@pytest.mark.slow
@pytest.mark.parametrize("mapper", ["shard_map", "pmap"])
def test_a_program_needs_no_values_of_its_arguments(mapper):
    lowered, facts = cases.lower(EVALUATION._replace(mapper=mapper), parallel.device_mesh())
    assert facts["devices"] == 2
    assert facts["parameters and statistics"] == 269_722 + 1_376  # The paper: 0.27 M; two statistics a channel.
    assert lowered.compile().memory_analysis().argument_size_in_bytes > 60_000 * 32 * 32 * 3


def test_every_net_has_its_own_name_and_every_program_is_listed_once():
    assert len(cases.NETS) == len(cases.RECIPES)
    listed = cases.cases()
    assert len(set(listed)) == len(listed)
    assert {case.net for case in listed} == set(cases.NETS)


def test_the_compilers_are_of_the_version_of_jax_that_is_tested():
    root = pathlib.Path(__file__).parents[2]
    (jax,) = re.findall(r"^jax==(.*)$", (root / "requirements.lock").read_text(), re.MULTILINE)
    compilers = (root / "benchmarks" / "programs" / "requirements.txt").read_text()
    assert re.findall(r"^jax-cuda.*==(\S+)$", compilers, re.MULTILINE) == [jax, jax]


@pytest.mark.parametrize("name", ["gpu:v5e", "tpu:h100:2x2", "tpu:v5e", "h100", "gpu:h1000"])
def test_a_name_of_no_target_is_refused_with_names_that_are(name):
    with pytest.raises(UserError, match="gpu:h100:8 or tpu:v5e:2x2, with a chip of h100, h200, a100, v4, v5e"):
        targets.target(name)


def test_a_missing_compiler_is_named_with_the_way_to_it(monkeypatch, tmp_path):
    monkeypatch.setattr(targets, "COMPILERS", tmp_path)
    with pytest.raises(UserError, match=r"the compiler for gpu:h100 is not in .*; `make programs` installs it"):
        targets.target("gpu:h100").devices()
