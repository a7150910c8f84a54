"""Whether the runs of a sweep can be trained."""

import json
import shutil

import pytest

from configs import recipes
from resnet_jax.errors import UserError
from resnet_jax.sweeps import checks
from resnet_jax.sweeps.checks import Checks, in_turns
from resnet_jax.sweeps.grid import axis
from resnet_jax.sweeps.plan import Problems, plan
from tests.analysis.synthetic import write_run
from tests.data.conftest import tiny_splits, write_set


def planned(folder, sweep):
    base, problems = recipes.digits(8, residual=True), Problems("the sweep")
    runs = plan(base, sweep, folder, [], problems)
    problems.report(len(sweep))
    return runs


def check(folder, sweep, devices=1, prepares=True):
    """Return the message on ``sweep``, "" if all its runs can be trained."""
    runs, problems = planned(folder, sweep), Problems("the sweep")
    Checks(runs, devices, prepares).costs(runs, problems)
    try:
        problems.report(len(sweep))
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"batch_size": 1502}, "config.batch_size=1502 is more than the 1500 training examples"),
        ({"data.padding": 9}, "config.data.padding=9 is more than the images of 8x8 pixels have"),
        ({"data.downsample": 3}, "config.data.downsample=3 does not divide images of 8x8 pixels"),
        ({"data.validation_examples": 1500}, "config.data.validation_examples=1500 must be from 0 to 1499"),
        ({"data.color_noise": 0.1}, "config.data.color_noise=0.1 needs images of 3 channels"),
        ({"data.name": "folder"}, "config.data.name=folder needs config.data.image_size"),
        ({"data.name": "cifar11"}, "config.data.name='cifar11' is unknown to TFDS"),
        ({"gates.shortcut_factor": (1, 0)}, "has 2 numbers; give one, or one for each of the 3 stages or the 3 blocks"),
        (
            {"gates.route": "mirror", "model.residual": False},
            "config.gates.route='mirror' needs blocks with shortcuts",
        ),
        ({"gates.without": "every_second", "model.survival": 0.5}, "removes shortcuts, but with config.model.survival"),
        ({"optimizer.frozen_below": "stage4/block0"}, "config.optimizer.frozen_below='stage4/block0' is not a block"),
        ({"from_run": "/no/such"}, "config.from_run=/no/such is not a run directory"),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_a_run_that_training_would_refuse_is_refused(tmp_path, overrides, message):
    found = check(tmp_path, [{"seed": 1}, overrides])
    assert found.startswith("the sweep: 1 of 2 runs cannot be trained. ")
    assert message in found


def test_what_training_would_accept_is_accepted_and_nothing_is_written(tmp_path):
    sweep = [{"seed": 1}, {"gates.shortcut_factor": (1, 0, 1)}, {"optimizer.frozen_below": "stage3/block0"}]
    assert check(tmp_path, sweep) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_batch_must_suit_the_devices_of_the_runs_if_they_are_known(tmp_path):
    sweep = [{"batch_size": 100}]
    assert "config.batch_size=100 cannot be divided among 8 devices" in check(tmp_path, sweep, devices=8)
    assert check(tmp_path, sweep, devices=4) == ""
    assert check(tmp_path, sweep, devices=None) == ""
    each = [{"per_device_batch_size": 200}]
    assert "config.batch_size=1600 is more than the 1500 training examples" in check(tmp_path, each, devices=8)
    assert check(tmp_path, each, devices=None) == ""


def test_a_run_directory_of_another_config_is_refused(tmp_path):
    write_run(tmp_path / "residual-8-seed1", 8, residual=True, seed=2)
    assert "holds a run of another config" in check(tmp_path, [{"seed": 1}])


def test_each_net_and_data_set_is_looked_at_once(tmp_path, monkeypatch):
    calls = []
    for owner, name in ((checks, "fitted"), (checks.data, "load")):
        function = getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda *args, function=function, name=name: (calls.append(name), function(*args))[1]
        )
    sweep = [{"seed": seed, "optimizer.learning_rate": rate} for seed in range(20) for rate in (0.1, 0.2)]
    assert check(tmp_path, sweep) == ""
    assert sorted(calls) == ["fitted", "load"]


def test_a_data_set_of_ones_own_is_looked_at(tmp_path):
    write_set(tmp_path / "sets", "tiny", tiny_splits())
    data = {"data.name": "tiny", "data.data_dir": str(tmp_path / "sets")}
    found = check(tmp_path / "runs", [data | {"batch_size": 40}, data | {"batch_size": 42}])
    assert "config.batch_size=42 is more than" in found
    shutil.rmtree(tmp_path / "sets" / "tiny")
    assert "'tiny' is unknown to TFDS and not found under" in check(tmp_path / "runs", [data | {"batch_size": 8}])


def test_an_absent_data_set_is_downloaded_only_where_runs_start(tmp_path, monkeypatch):
    monkeypatch.setattr(checks.data, "load", lambda config: pytest.fail("it would be prepared"))
    runs = planned(
        tmp_path, [{"data.name": "cifar10", "data.data_dir": str(tmp_path / "sets"), "seed": s} for s in (1, 2)]
    )
    found, problems = Checks(runs, devices=1, prepares=False), Problems("the sweep")
    costs = found.costs(runs, problems)
    problems.report(2)
    assert len(costs) == 2
    assert found.unchecked == [
        "Data set cifar10 is not on this machine yet, so whether its size suits the runs is not checked."
    ]


def test_a_run_may_start_from_one_of_the_same_sweep_of_the_same_net_and_then_waits_for_it(tmp_path):
    first, second = {"seed": 1}, {"from_run": str(tmp_path / "residual-8-seed{seed}"), "seed": 1}
    assert check(tmp_path, [second, first]) == ""
    runs = planned(tmp_path, [second, first])
    assert [[run.overrides for run in turn] for turn in in_turns(runs)] == [[first], [second]]
    deeper = second | {"model.depth": 14}
    assert "holds residual-8, but this run trains residual-14" in check(tmp_path, [first, deeper])
    selected = [runs[0]]
    problems = Problems("the sweep")
    Checks(runs, 1, prepares=True).costs(selected, problems)
    with pytest.raises(UserError, match="is an unfinished run of this sweep; train it first"):
        problems.report(2)


def test_runs_that_start_from_each_other_are_refused(tmp_path):
    own = {"from_run": str(tmp_path / "residual-8-from_residual-8-from_x-seed1-seed1"), "seed": 1}
    (run,) = planned(tmp_path, [own])
    run.config.from_run = str(run.workdir)
    with pytest.raises(UserError, match=r"start from each other; see config\.from_run"):
        in_turns([run])


def test_a_finished_run_needs_neither_data_nor_the_run_it_started_from(tmp_path):
    sweep = [{"from_run": "/no/such", "data.data_dir": "/no/such"}]
    (run,) = planned(tmp_path, sweep)
    write_run(run.workdir, 8, residual=True)
    record = json.loads((run.workdir / "config.json").read_text())
    (run.workdir / "config.json").write_text(json.dumps(record | {"config": run.config.to_dict()}))
    assert check(tmp_path, sweep) == ""
    assert check(tmp_path, axis("seed", [0])) == ""
