"""Measurements that are damaged are left out and named; the others are read."""

import json
import re

import pytest

from resnet_jax.analysis.diagnosed import read_diagnosed
from resnet_jax.analysis.runs import group_seeds, read_runs
from tests.analysis.measured import measure
from tests.analysis.synthetic import write_run


@pytest.fixture
def folder(tmp_path):
    """Two seeds of one net, both measured."""
    for seed in range(2):
        measure(write_run(tmp_path / f"plain-20-seed{seed}", seed=seed), False, 20, seed, size=0.5)
    return tmp_path


@pytest.mark.parametrize(
    ("instrument", "change", "reason"),
    [
        ("gradients", lambda line: line["result"].update(relative=[1.0]), "does not have one relative for each block"),
        ("gradients", lambda line: line["result"].update(a_layer="1"), "a_layer is '1' instead of a number"),
        (
            "probes",
            lambda line: line["result"].update(test_error=[2.0] * 4),
            "test_error[0] is 2.0 instead of a number",
        ),
        ("branches", lambda line: line.pop("result"), "its content has no result"),
        ("branches", lambda line: line.update(blocks=["a", "b", "c", "d"]), "it has other blocks than another net"),
        ("responses", lambda line: line["result"]["deviation"].pop(), "differs in size from the result of another net"),
        ("deletions", lambda line: line["result"]["several"].pop(), "differs in size from the result of another net"),
        ("branches", lambda line: line.update(step=-1), "step is -1 instead of a whole number at least 0"),
    ],
)
def test_damaged_measurements_of_one_net_are_left_out_and_named(folder, instrument, change, reason):
    path = folder / "plain-20-seed1" / "diagnosis" / f"{instrument}.jsonl"
    contents = [json.loads(line) for line in path.read_text().splitlines()]
    change(contents[0])
    path.write_text("".join(json.dumps(content) + "\n" for content in contents))
    measured, problems = read_diagnosed([folder], group_seeds(read_runs([folder])[0]))
    assert [net.name for net in measured] == ["plain-20-seed0"]
    [problem] = problems
    assert re.match(r"the measurements of .*/plain-20-seed1 are skipped: ", problem)
    assert reason in problem


def test_sound_measurements_are_all_read(folder):
    measured, problems = read_diagnosed([folder], group_seeds(read_runs([folder])[0]))
    assert (len(measured), problems) == (2, [])
