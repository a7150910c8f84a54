"""Measurements are found by instrument and step; damaged ones are left out and named."""

import json
import re

import pytest

from resnet_jax.analysis.diagnosed import START, Diagnosed, by_label, check_any, read_diagnosed
from resnet_jax.errors import UserError
from resnet_jax.instruments import END, diagnosis
from tests.analysis.measured import measure, measurement
from tests.analysis.synthetic import nets_in, write_run


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
    measured, problems = read_diagnosed([folder], nets_in(folder))
    assert [net.name for net in measured] == ["plain-20-seed0"]
    [problem] = problems
    assert re.match(r"the measurements of .*/plain-20-seed1 are skipped: ", problem)
    assert reason in problem


def test_sound_measurements_are_all_read(folder):
    measured, problems = read_diagnosed([folder], nets_in(folder))
    assert (len(measured), problems) == (2, [])


def ranks(value, step):
    return measurement("feature_rank", {"rank": [value] * 4}, step)


def net(*measurements, residual=False, depth=20, label="plain-20", name="run"):
    return Diagnosed(label, residual, depth, name, None, list(measurements))


def found(each, when):
    there = each.found("feature_rank", when)
    return there and there.result["rank"][0]


def test_a_measurement_is_found_by_its_step():
    each = net(ranks(1.0, 0), ranks(2.0, 100), ranks(3.0, 300))
    assert [found(each, when) for when in (START, 0, 100, END, 300, 200)] == [1, 1, 2, 3, 3, None]
    assert each.found("gradients", START) is None
    assert each.result("feature_rank", START, "rank") == [1.0] * 4
    assert each.result("feature_rank", START, "nothing") is None
    assert each.result("gradients", START, "rank") is None


def test_the_newest_of_several_measurements_counts():
    assert found(net(ranks(1.0, 300), ranks(2.0, 300)), END) == 2


def test_the_end_is_the_last_step_of_any_instrument_and_never_the_start():
    each = net(ranks(1.0, 100), measurement("branches", {"share": [0.5] * 4}, 300))
    assert found(each, END) is None  # It was measured before the end only.
    assert found(net(ranks(1.0, 0)), END) is None
    assert found(net(), END) is None


def test_weights_have_no_steps_and_are_at_the_end():
    weights = net(ranks(2.0, None))
    assert (found(weights, END), found(weights, START)) == (2, None)


def test_nets_are_grouped_by_label_plain_ones_first_then_by_depth():
    nets = [
        net(residual=True, depth=20, label="residual-20"),
        net(depth=110, label="plain-110"),
        net(depth=20, name="seed1"),
        net(depth=20, name="seed0"),
        net(depth=20, label="plain-20, norm none"),
    ]
    groups = by_label(nets)
    assert list(groups) == ["plain-20", "plain-20, norm none", "plain-110", "residual-20"]
    assert [each.name for each in groups["plain-20"]] == ["seed1", "seed0"]  # In the order given.


def test_runs_give_measured_nets_their_names_and_other_folders_their_titles(folder, tmp_path):
    for name, fields in (("a", {}), ("b", {"model__norm": "none"})):
        measure(write_run(tmp_path / "two" / name, 20, **fields), False, 20, 0, 0.5)
    measured, problems = read_diagnosed([tmp_path / "two"], nets_in(tmp_path / "two"))
    assert [each.label for each in measured] == ["plain-20, norm batch", "plain-20, norm none"]
    assert problems == []
    weights, _ = read_diagnosed([tmp_path / "two"], [])
    assert [(each.label, each.run) for each in weights] == [("plain-20", None)] * 2
    assert [each.run.name for each in measured] == ["a", "b"]


def test_a_folder_that_was_not_measured_has_no_nets(tmp_path):
    write_run(tmp_path / "run")
    (tmp_path / "run" / diagnosis.FOLDER).mkdir()
    (tmp_path / "run" / diagnosis.FOLDER / "gradients.jsonl").write_text("")
    assert read_diagnosed([tmp_path], nets_in(tmp_path)) == ([], [])
    with pytest.raises(UserError, match=r"nothing has been measured in .*; run experiments\.diagnose"):
        check_any([], [tmp_path])
    check_any([net()], [tmp_path])


def test_instruments_without_panels_may_have_any_result(tmp_path):
    run = write_run(tmp_path / "run")
    diagnosis.add(run, measurement("similarity", {"anything": [1]}, 300))
    [each], problems = read_diagnosed([tmp_path], nets_in(tmp_path))
    assert each.result("similarity", END, "anything") == [1]
    assert problems == []
