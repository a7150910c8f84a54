"""A signal stops a run after it has saved a checkpoint, a second one at once; neither loses anything."""

import signal

import pytest

from resnet_jax.data import sampling
from resnet_jax.rundir import read_json
from resnet_jax.training import train
from tests.promises.runs import SETTINGS, command, figures, finish, start, wait_for_line

LONG = {"steps": 200, "eval_every": 50, "checkpoint_every": 1000}


@pytest.fixture
def long_config(config):
    config.update_from_flattened_dict(SETTINGS | LONG)
    return config


@pytest.fixture(scope="module")
def whole_and_long(tmp_path_factory):
    return tmp_path_factory.mktemp("whole_and_long") / "run"


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_stops_the_command_with_status_75_and_it_resumes(long_config, whole_and_long, tmp_path, number):
    with start(command(tmp_path / "run", **LONG)) as process:
        wait_for_line(process, "step 8/")
        process.send_signal(number)
        status, stdout, stderr = finish(process)
    assert status == 75, stderr
    assert "preempted after" in stdout
    assert "The same command resumes it." in stdout
    summary = read_json(tmp_path / "run" / "summary.json")
    assert summary["status"] == "preempted"
    assert 8 <= summary["steps"] < 200
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [str(summary["steps"])]
    assert train(long_config, tmp_path / "run")["status"] == "finished"
    train(long_config, whole_and_long)  # Once; then it is found.
    assert figures(tmp_path / "run") == figures(whole_and_long)


def test_a_signal_does_not_wait_for_an_evaluation_which_is_made_when_the_run_resumes(config, tmp_path, monkeypatch):
    config.eval_batch_size = 8  # Some 38 batches of the test set.
    train(config, tmp_path / "whole")
    evaluated = []

    def evaluation_batches(split, batch_size):
        for number, batch in enumerate(original(split, batch_size)):
            if len(split) == 297 and number == 5 and not evaluated:
                signal.raise_signal(signal.SIGTERM)
            if evaluated == ["stopped"]:
                pytest.fail("the evaluation went on")
            yield batch
            if len(split) == 297 and number == 6 and not evaluated:
                evaluated.append("stopped")

    original = sampling.evaluation_batches
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "evaluation_batches", evaluation_batches)
        summary = train(config, tmp_path / "run")
    assert (summary["status"], summary["steps"]) == ("preempted", 6)
    assert summary["final"].keys() == {"train", "train_clean"}
    assert train(config, tmp_path / "run")["status"] == "finished"
    assert figures(tmp_path / "run") == figures(tmp_path / "whole")


def test_a_run_stopped_in_its_last_evaluation_is_not_finished_but_resumes(config, tmp_path, monkeypatch):
    config.eval_every = 12
    train(config, tmp_path / "whole")

    def evaluation_batches(*words):
        signal.raise_signal(signal.SIGTERM)
        return original(*words)

    original = sampling.evaluation_batches
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "evaluation_batches", evaluation_batches)
        summary = train(config, tmp_path / "run")
    assert (summary["status"], summary["steps"]) == ("preempted", 12)
    assert train(config, tmp_path / "run")["status"] == "finished"
    assert figures(tmp_path / "run") == figures(tmp_path / "whole")


# Hangs where it saves the checkpoint that a stop asks for.
HANGS = """
import pathlib, sys, time
from resnet_jax.backend import set_xla_flags
set_xla_flags()
from absl import logging
from configs import recipes
from resnet_jax.training import checkpoints, train

logging.set_verbosity(logging.INFO)
save = checkpoints.Checkpoints.save
def hang(self, *words):
    save(self, *words)
    print("hanging", file=sys.stderr, flush=True)
    time.sleep(10_000)
checkpoints.Checkpoints.save = hang
config = recipes.digits(depth=8, residual=True)
config.update_from_flattened_dict({settings})
train(config, pathlib.Path({workdir!r}))
"""


@pytest.mark.slow
def test_a_second_ctrl_c_leaves_at_once_without_damage(long_config, whole_and_long, tmp_path):
    program = HANGS.format(settings=SETTINGS | LONG, workdir=str(tmp_path / "run"))
    with start(["-c", program]) as process:
        wait_for_line(process, "step 4/")
        process.send_signal(signal.SIGINT)
        wait_for_line(process, "Stopping after this step")
        wait_for_line(process, "hanging")
        process.send_signal(signal.SIGINT)
        status, _, stderr = finish(process)
    assert status == 130
    assert stderr.endswith("Quit without a checkpoint; the same command resumes from the last one.\n")
    assert not (tmp_path / "run" / "summary.json").exists()
    assert train(long_config, tmp_path / "run")["status"] == "finished"
    train(long_config, whole_and_long)  # Once; then it is found.
    assert figures(tmp_path / "run") == figures(whole_and_long)
