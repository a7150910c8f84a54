"""Whole runs: they learn, end, stop, resume and refuse."""

import re
import shutil
import signal

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from resnet_jax.errors import UserError
from resnet_jax.rundir import KEPT, read_metrics, saved_steps
from resnet_jax.safe_files import read_json, write_json
from resnet_jax.training import loop, parallel, train
from tests.promises.runs import at_step, figures, last_state
from tests.training.tiny import with_tiny_net

SORTS_OF_NETS = [
    (True, "float32"),
    pytest.param(False, "float32", marks=pytest.mark.slow),
    pytest.param(True, "bfloat16", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("residual", "dtype"), SORTS_OF_NETS)
def test_the_loss_falls_on_digits(config, tmp_path, residual, dtype):
    config.model.residual = residual
    config.dtype = dtype
    config.steps = 60
    config.optimizer.milestones = (2 / 3,)
    config.eval_every = 30
    config.data.validation_examples = 100
    summary = train(config, tmp_path / "run")
    assert summary["status"] == "finished"
    assert summary["final"].keys() == {"train", "train_clean", "validation", "test"}
    curve = [line["loss"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if line["split"] == "train"]
    assert curve[-1] < 0.5 * curve[0]
    assert summary["final"]["test"]["error"] < 0.2


def test_a_finished_run_has_all_its_records_and_is_not_run_again(config, whole, monkeypatch):
    run, summary = whole, read_json(whole / "summary.json")
    assert {path.name for path in run.iterdir()} == {
        "config.json",
        "environment.json",
        "identity.json",
        "normalisation.json",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
        "lock",
        "summary.json",
    }
    lines = read_metrics(run / "metrics.jsonl")
    assert [(line["step"], line["split"]) for line in lines] == [
        (4, "train"),
        (6, "train_clean"),
        (6, "test"),
        (8, "train"),
        (12, "train"),
        (12, "train_clean"),
        (12, "test"),
    ]
    names = {"step", "split", "epoch", "loss", "error", "lr", "images_per_second", "data_wait", "seconds"}
    assert all(line.keys() == names for line in lines)
    assert [line["lr"] for line in lines if line["split"] == "train"] == [0.03, 0.003, 0.0003]
    assert lines[-1]["epoch"] == pytest.approx(12 * 32 / 1500, abs=1e-3)
    assert summary["final"]["test"] == {name: lines[-1][name] for name in ("step", "loss", "error")}

    monkeypatch.setattr(loop, "fitted", lambda *_: pytest.fail("trained again"))
    assert train(config, run) == summary


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGINT, signal.SIGUSR2))],
)
def test_a_stopped_run_resumes_and_equals_an_uninterrupted_one(config, whole, tmp_path, monkeypatch, number):
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        at_step(patch, 6, lambda: signal.raise_signal(number))
        summary = train(config, tmp_path / "parts")
    assert (summary["status"], summary["steps"]) == ("preempted", 7)
    assert signal.getsignal(number) is handler
    assert train(config, tmp_path / "parts")["status"] == "finished"
    assert figures(tmp_path / "parts") == figures(whole)
    states = (last_state(config, workdir) for workdir in (tmp_path / "parts", whole))
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert len(read_json(tmp_path / "parts" / "environment.json")) == 2


def test_a_killed_run_resumes_from_its_last_checkpoint_and_equals_an_uninterrupted_one(
    config, whole, tmp_path, monkeypatch
):
    class Killed(BaseException):
        """An exception that no code expects."""

    def kill():
        raise Killed

    with monkeypatch.context() as patch:
        at_step(patch, 9, kill)
        with pytest.raises(Killed):
            train(config, tmp_path / "parts")
    assert not (tmp_path / "parts" / "summary.json").exists()
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "spl')  # A line that was being written.
    assert train(config, tmp_path / "parts")["status"] == "finished"
    assert figures(tmp_path / "parts") == figures(whole)


def test_a_run_compiles_its_step_once_and_a_restart_and_another_seed_compile_nothing(
    config, registrations, tmp_path, monkeypatch
):
    """Compiled are the programs of a run; a restart finds them among those that are kept."""
    kept = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()
    with_tiny_net(config)
    config.steps, config.log_every, config.eval_every, config.checkpoint_every = 104, 4, 52, 52  # Two epochs.
    config.optimizer.milestones = (0.25, 0.375)

    def programs():
        names = [path.name for path in (tmp_path / "compiled").glob("jit_*-cache")]
        return sorted(name for name in names if name.startswith(("jit_train_steps", "jit_eval_step")))

    try:
        at_step(monkeypatch, 60, lambda: signal.raise_signal(signal.SIGINT))
        assert train(config, tmp_path / "run")["status"] == "preempted"
        first = programs()
        assert [name.rsplit("-", 2)[0] for name in first] == ["jit_eval_step", "jit_train_steps"]
        jax.clear_caches()
        assert train(config, tmp_path / "run")["status"] == "finished"
        config.seed = 1
        config.steps, config.optimizer.milestones = 52, (0.5, 0.75)  # The same steps: they are in the program.
        train(config, tmp_path / "other")
        assert programs() == first
    finally:
        jax.config.update("jax_compilation_cache_dir", kept[0])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", kept[1])
        compilation_cache.reset_cache()


def test_a_diverged_run_says_so_and_stays_so(config, registrations, tmp_path):
    with_tiny_net(config).optimizer.learning_rate = 1e30
    summary = train(config, tmp_path / "run")
    assert summary["status"] == "diverged"
    assert summary["steps"] < config.steps
    assert summary["final"]["train"]["loss"] is None
    assert train(config, tmp_path / "run") == summary


def test_a_run_ends_at_the_first_record_below_the_loss_that_ends_it_also_when_it_was_stopped_there(
    config, whole, tmp_path, monkeypatch
):
    losses = [(line["step"], line["loss"]) for line in figures(whole) if line["split"] == "train"]
    below = losses[1][1] * 1.0001  # Between the records at steps 4 and 8 of 12.
    assert losses[0][1] > below
    config.stop_below_loss, config.keep_checkpoints = below, (4,)
    summary = train(config, tmp_path / "run")
    assert (summary["status"], summary["steps"]) == ("finished", 8)
    lines = figures(tmp_path / "run")
    assert [line for line in lines if line["split"] == "train"] == [
        line for line in figures(whole) if line["split"] == "train" and line["step"] <= 8
    ]
    assert [line["step"] for line in lines if line["split"] == "test"] == [6, 8]
    assert saved_steps(tmp_path / "run", KEPT) == [4, 6, 8]  # At 6 the rate drops.
    assert train(config, tmp_path / "run") == summary

    with monkeypatch.context() as patch:
        at_step(patch, 7, lambda: signal.raise_signal(signal.SIGINT))
        stopped = train(config, tmp_path / "parts")
    assert (stopped["status"], stopped["steps"]) == ("preempted", 8)
    assert train(config, tmp_path / "parts")["status"] == "finished"
    assert figures(tmp_path / "parts") == lines


def test_runs_of_one_seed_are_equal_and_of_another_differ(config, registrations, tmp_path):
    with_tiny_net(config)
    config.steps = config.eval_every = 4
    train(config, tmp_path / "first")
    train(config, tmp_path / "second")
    assert figures(tmp_path / "first") == figures(tmp_path / "second")
    config.seed = 1
    train(config, tmp_path / "other")
    assert figures(tmp_path / "first") != figures(tmp_path / "other")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("log_every", 0),
        ("seed", -1),
        ("data.padding", -1),
        ("optimizer.learning_rate", -0.1),
        ("model.depth", 21),
        ("data.validation_examples", 9999),
    ],
)
def test_a_config_that_cannot_be_run_leaves_nothing_behind(config, tmp_path, field, value):
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=re.escape(f"config.{field}={value}")):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_newest_dispatch_stays_in_flight_until_everything_is_collected():
    in_flight = loop.InFlight(parallel.device_mesh(), lambda: False)
    collected = []
    for first in range(3):
        in_flight.add(first, {"of": first})
        collected += in_flight.collect(everything=False)
    assert collected == [(0, {"of": 0}), (1, {"of": 1})]
    assert list(in_flight.collect(everything=True)) == [(2, {"of": 2})]
    assert not in_flight.stop


@pytest.mark.parametrize("late", [False, True])
def test_a_stop_is_known_with_the_vote_of_its_dispatch_and_empties_the_queue(monkeypatch, late):
    """With several processes a vote is an array, which is read when its dispatch is collected."""
    votes = iter([False, True, False])
    monkeypatch.setattr(loop.hosts, "any_process", lambda *_: np.array(next(votes)) if late else next(votes))
    in_flight = loop.InFlight(parallel.device_mesh(), lambda: False)
    in_flight.add(0, {})
    in_flight.add(1, {})
    assert in_flight.stop is not late
    if late:
        assert len(list(in_flight.collect(everything=False))) == 1
        in_flight.add(2, {})
        assert not in_flight.stop
    assert len(list(in_flight.collect(everything=False))) == 2
    assert in_flight.stop


def test_a_finished_run_whose_config_file_was_changed_is_not_taken_for_a_run_of_that(config, whole, tmp_path):
    workdir = shutil.copytree(whole, tmp_path / "run")
    content = read_json(workdir / "config.json")
    content["config"]["seed"] = config.seed = 7
    write_json(workdir / "config.json", content)
    with pytest.raises(
        UserError, match=r"config\.json is not the one the run was started with: seed \(0 there, 7 here\)"
    ):
        train(config, workdir)


def test_processes_compare_what_each_of_them_would_run(config, whole, monkeypatch):
    compared = []
    monkeypatch.setattr(loop.identity, "agree", lambda values: compared.append([*values]))
    train(config, whole)
    assert compared == [["--workdir", "config", "definitions", "versions", "--workdir holds the finished run"]]
