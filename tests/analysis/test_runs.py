"""Reading runs, and grouping them into replicates and series."""

import json
import re

import numpy as np
import pytest

from resnet_jax.analysis.runs import (
    differing_fields,
    group_depths,
    group_seeds,
    nets_of,
    of_one_device,
    other_definitions,
    read_run,
    read_runs,
    recipe,
    series_fields,
)
from resnet_jax.errors import UserError
from resnet_jax.registry import Registration
from tests.analysis.synthetic import nets_in, set_losses, write_run


def test_a_run_is_read_as_it_was_written(tmp_path):
    run = read_run(write_run(tmp_path / "run", 56, error=0.3, seed=4))
    assert run.finished
    assert (run.config["model.depth"], run.config["seed"], run.step) == (56, 4, 300)
    steps, errors = run.curve("test")
    np.testing.assert_array_equal(steps, [100, 200, 300])
    assert errors[-1] == run.final("test") == run.best("test") == pytest.approx(0.31)
    np.testing.assert_array_equal(run.curve("train", "seconds")[0], [200, 400, 600])


def test_all_runs_below_a_folder_are_read_once(tmp_path):
    for name in ("a", "b", "deep/c"):
        write_run(tmp_path / name)
    runs, problems = read_runs([tmp_path, tmp_path / "deep"])
    assert [run.name for run in runs] == ["a", "b", "c"]
    assert problems == []


def test_runs_with_equal_names_are_prefixed_with_their_sweeps(tmp_path):
    for name in ("one/plain-20", "two/plain-20", "two/plain-56"):
        write_run(tmp_path / name)
    runs, _ = read_runs([tmp_path / "one", tmp_path / "two"])
    assert [run.name for run in runs] == ["one/plain-20", "two/plain-20", "plain-56"]


def test_unfinished_and_truncated_runs_are_read_and_damaged_ones_named(tmp_path):
    write_run(tmp_path / "unfinished", status=None)
    cut = write_run(tmp_path / "cut", status=None)
    with (cut / "metrics.jsonl").open("a") as file:
        file.write('{"step": 300, "sp')
    damaged = write_run(tmp_path / "damaged")
    (damaged / "metrics.jsonl").write_text("{damaged}\n")
    runs, problems = read_runs([tmp_path])
    assert {run.name: run.finished for run in runs} == {"unfinished": False, "cut": False}
    assert len(problems) == 2
    assert any("cut/metrics.jsonl ends with an incomplete line" in problem for problem in problems)
    assert any("damaged is skipped" in problem and "metrics.jsonl is damaged" in problem for problem in problems)


def test_runs_with_figures_that_cannot_be_are_skipped_and_do_not_stop_the_others(tmp_path):
    write_run(tmp_path / "sound")

    def change(name, file, change):
        path = write_run(tmp_path / name) / file
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    change("error", "summary.json", lambda summary: summary["final"]["test"].update(error=-0.874))
    change("steps", "summary.json", lambda summary: summary.update(steps=301))
    change("splits", "summary.json", lambda summary: summary["best"].pop("test"))
    change("depth", "config.json", lambda content: content["config"]["model"].update(depth=-20))
    change("starts", "environment.json", lambda starts: starts[0].pop("time"))
    line = {"step": 1, "split": "train", "epoch": 1.0, "error": 0.5, "lr": 0.1, "seconds": 1.0}
    (write_run(tmp_path / "line") / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    runs, problems = read_runs([tmp_path])
    assert [run.name for run in runs] == ["sound"]
    reasons = {
        "depth": r"config\.model\.depth=-20 must be at least",
        "error": r"final\.test\.error is -0\.874 instead of a number at least 0",
        "line": r"metrics\.jsonl is damaged in line 1: it has no loss",
        "splits": r"it has no figures of split test",
        "starts": r"environment\.json is damaged: \[0\] has no time",
        "steps": r"it has records beyond its last step, 300",
    }
    for problem, (name, reason) in zip(problems, reasons.items(), strict=True):
        assert re.search(rf"{name} is skipped: .*{reason}", problem)


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"nowhere is not a folder; give a run directory or a folder of run directories"
    ):
        read_runs([tmp_path / "nowhere"])
    with pytest.raises(UserError, match=r"no runs found in .*; give a run directory"):
        read_runs([tmp_path])
    with pytest.raises(UserError, match=r"is not a run directory: it has no config\.json"):
        read_run(tmp_path)
    write_run(tmp_path / "damaged")
    (tmp_path / "damaged" / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"none of the 1 runs can be read.*config\.json"):
        read_runs([tmp_path])


def test_runs_that_differ_in_the_seed_or_in_what_is_recorded_are_one_net(tmp_path):
    write_run(tmp_path / "a", 20, seed=0)
    write_run(tmp_path / "b", 20, seed=1, log_every=5, data__data_dir="/data")
    write_run(tmp_path / "c", 56, seed=0)
    nets = nets_in(tmp_path)
    assert [(net.label, len(net.runs)) for net in nets] == [("plain-20", 2), ("plain-56", 1)]


def test_series_are_named_by_the_fields_in_which_they_differ(tmp_path):
    write_run(tmp_path / "plain", residual=False, model__shortcut="B")  # A plain net does not read this field.
    write_run(tmp_path / "plain2", residual=False, model__shortcut="A", seed=1)
    for shortcut in "AB":
        write_run(tmp_path / shortcut, residual=True, model__shortcut=shortcut)
    nets = nets_in(tmp_path)
    assert [net.label for net in nets] == ["plain-20", "residual-20, shortcut A", "residual-20, shortcut B"]
    write_run(tmp_path / "longer", residual=False, steps=900)
    nets = nets_in(tmp_path)
    assert {net.series for net in nets if "plain" in net.series} == {"plain, steps 300", "plain, steps 900"}


def test_runs_under_interventions_are_series_named_by_those_they_have_and_of_one_recipe(tmp_path):
    write_run(tmp_path / "free", residual=True)
    write_run(tmp_path / "half", residual=True, gates__shortcut_factor=(0.5,))
    write_run(tmp_path / "stop", residual=True, gates__route="stop_gradient")
    write_run(tmp_path / "second", residual=True, gates__without="every_second")
    write_run(tmp_path / "many", residual=True, gates__branch_factor=(1.0,) * 5 + (0.0,) * 4)
    write_run(tmp_path / "frozen", residual=True, optimizer__frozen_below="stage3/block0")
    runs = read_runs([tmp_path])[0]
    assert {net.series for net in group_seeds(runs)} == {
        "residual",
        "residual, shortcut_factor 0.5",
        "residual, route stop_gradient",
        "residual, without every second shortcut",
        "residual, branch_factor 5x1 4x0",
        "residual, frozen_below stage3/block0",
    }
    assert "residual-20, without every second shortcut" in {net.label for net in group_seeds(runs)}
    assert all(recipe(run) == recipe(runs[0]) for run in runs)


def test_the_nets_of_a_series_are_called_by_its_kind():
    assert nets_of("plain") == "plain nets"
    assert nets_of("residual, shortcut B, steps 300") == "residual nets, shortcut B, steps 300"


def on(folder, *devices):
    starts = [{"time": "2026", "device_kind": device, "device_count": 1, "packages": {}} for device in devices]
    (folder / "environment.json").write_text(json.dumps(starts))


def test_runs_on_another_kind_of_device_than_most_are_left_out_by_name(tmp_path):
    for name, devices in {
        "a": ["cpu"],
        "b": ["cpu", "cpu"],
        "c": ["NVIDIA H100"],
        "d": ["cpu", "TPU v5"],
        "e": [],
    }.items():
        on(write_run(tmp_path / name), *devices)
    runs, _ = read_runs([tmp_path])
    kept, said = of_one_device(runs)
    assert [run.name for run in kept] == ["a", "b", "e"]
    assert said == [
        "c and d trained on NVIDIA H100 or TPU v5 and cpu instead of cpu, and are left out; --mixed_devices judges "
        "runs on all kinds of device together."
    ]
    assert of_one_device(kept) == (kept, [])
    assert of_one_device([]) == ([], [])


def test_curves_and_losses_are_those_of_one_split(tmp_path):
    run = read_run(write_run(tmp_path / "run", error=0.3))
    steps, losses = run.losses()
    np.testing.assert_array_equal(steps, [100, 200, 300])
    np.testing.assert_allclose(losses, 2 * np.array([0.7, 0.5, 0.3]))  # Of training mini-batches: twice the error.
    np.testing.assert_allclose(run.curve("train_clean")[1], [0.7, 0.5, 0.3])
    assert [len(each) for each in run.curve("validation")] == [0, 0]


def test_the_loss_of_a_diverged_run_is_not_a_number_where_it_was_not_finite(tmp_path):
    run = read_run(set_losses(write_run(tmp_path / "run", status="diverged"), [2.0, None]))
    np.testing.assert_array_equal(run.losses()[1], [2.0, np.nan])
    assert (run.diverged, run.finished, run.complete) == (True, False, False)


def test_a_run_without_records_is_at_step_0(tmp_path):
    run = write_run(tmp_path / "run", status=None)
    (run / "metrics.jsonl").write_text("")
    assert read_run(run).step == 0
    assert [len(each) for each in read_run(run).losses()] == [0, 0]


def test_a_run_that_ended_before_its_last_step_is_finished_and_not_complete(tmp_path):
    folder = write_run(tmp_path / "early")
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"steps": 200}))
    write_run(tmp_path / "whole", seed=1)
    write_run(tmp_path / "started", seed=2, status=None)
    [net] = nets_in(tmp_path)
    assert [run.name for run in net.finished] == ["early", "whole"]
    assert [run.name for run in net.complete] == ["whole"]


def test_a_net_made_by_surgery_is_left_out_and_named(tmp_path):
    write_run(tmp_path / "trained")
    folder = write_run(tmp_path / "surgery")
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"status": "made by surgery"}))
    runs, [problem] = read_runs([tmp_path])
    assert [run.name for run in runs] == ["trained"]
    assert re.search("surgery is left out: its net was made by surgery", problem)


def test_fields_differ_under_which_not_all_have_one_value(tmp_path):
    fields = [{"a": 1, "b": [1, 2], "c": 0.1}, {"a": 1, "b": [1, 3], "c": 0.1}, {"a": 1, "b": [1, 2]}]
    assert differing_fields(fields) == ["b", "c"]  # The third has no c.
    assert differing_fields(fields[:1]) == differing_fields([]) == []
    assert differing_fields([{"a": 1}, {"a": 1.0}, {"a": True}]) == ["a"]  # Written otherwise.


def test_fields_of_a_series_leave_out_seed_and_depth_and_a_recipe_the_net_too(tmp_path):
    plain = read_run(write_run(tmp_path / "plain", 20, False, seed=3))
    residual = read_run(write_run(tmp_path / "residual", 20, True, gates__route="stop_gradient"))
    fields = series_fields(residual)
    assert not {"seed", "model.depth", "log_every"} & fields.keys()
    assert {"model.shortcut", "gates.route", "optimizer.learning_rate", "steps"} <= fields.keys()
    assert "model.shortcut" not in series_fields(plain)
    assert recipe(plain) == recipe(residual)
    assert not any(name.startswith(("model.", "gates.")) for name in recipe(plain))


def test_series_keep_the_order_of_their_nets_and_have_them_by_depth(tmp_path):
    for residual in (False, True):
        for depth in (110, 20, 56):
            write_run(tmp_path / f"{residual}-{depth}", depth, residual)
    nets = nets_in(tmp_path)
    assert [(net.series, net.depth) for net in nets] == [
        (series, depth) for series in ("plain", "residual") for depth in (20, 56, 110)
    ]
    found = group_depths(nets[::-1])
    assert list(found) == ["residual", "plain"]
    assert [net.depth for net in found["plain"]] == [20, 56, 110]
    assert group_depths([]) == {}


def test_runs_whose_own_nets_have_other_files_are_named_and_those_of_one_file_are_not(tmp_path):
    [run] = read_runs([write_run(tmp_path / "run")])[0]
    one, other = (Registration("model.block", "mine", "net.py", digest * 64) for digest in "ab")
    assert other_definitions([run._replace(registered=[one])] * 2) == []
    [sentence] = other_definitions([run._replace(registered=[each]) for each in (one, other)])
    assert "(sha256 aaaaaaaaaaaa) and " in sentence
    assert "(sha256 bbbbbbbbbbbb) are compared as one" in sentence
    foreign = other._replace(name="yours")
    assert other_definitions([run._replace(registered=[one, foreign])]) == []


def test_an_error_on_validation_examples_is_needed_where_the_config_holds_them_out(tmp_path):
    folder = write_run(tmp_path / "run", validation=0.2)
    assert read_run(folder).final("validation") == pytest.approx(0.2)
    summary = json.loads((folder / "summary.json").read_text())
    del summary["final"]["validation"]
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match="it has no figures of split validation"):
        read_run(folder)
