"""A signal stops a run after it has saved a checkpoint, a second one at once; neither loses anything."""

import signal

import pytest

from resnet_jax.data import sampling
from resnet_jax.rundir import saved_step
from resnet_jax.safe_files import read_json
from resnet_jax.training import train
from tests.promises.runs import SETTINGS, command, figures, finish, start, wait_for_line, words_of

LONG = {"steps": 200, "eval_every": 50, "checkpoint_every": 1000}


# A signal to the process itself in a part of the command, where the thread that receives it has time to answer.
INTERRUPTED = """
import os, runpy, signal, time
from resnet_jax import data
from resnet_jax.training import record
original = {part}
signals = [signal.{name}]
def interrupted(*words, **settings):
    if signals:
        os.kill(os.getpid(), signals.pop())
        time.sleep(0.5)
    return original(*words, **settings)
{part} = interrupted
runpy.run_module("experiments.main", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGINT, signal.SIGHUP))]
)
def test_a_signal_stops_the_command_with_status_75_and_it_resumes(commands, config, whole, tmp_path, number):
    program = INTERRUPTED.format(part="record.RunRecord.write", name=number.name)
    done = commands("main", *words_of(tmp_path / "run"), program=program)
    assert done.returncode == 75, done.stderr
    assert "preempted after" in done.stdout
    assert "The same command resumes it." in done.stdout
    summary = read_json(tmp_path / "run" / "summary.json")
    assert summary["status"] == "preempted"
    assert 4 <= summary["steps"] < 12
    assert saved_step(tmp_path / "run") == summary["steps"]
    assert train(config, tmp_path / "run")["status"] == "finished"
    assert figures(tmp_path / "run") == figures(whole)


@pytest.mark.slow
def test_a_signal_does_not_wait_for_an_evaluation_which_is_made_when_the_run_resumes(config, tmp_path, monkeypatch):
    config.eval_batch_size = 8  # Some 38 batches of the test set.
    train(config, tmp_path / "whole")
    evaluated = []

    def evaluation_batches(split, batch_size):
        for number, batch in enumerate(original(split, batch_size)):
            if len(split) == 297 and number == 5 and not evaluated:
                signal.raise_signal(signal.SIGTERM)
            if evaluated == ["stopped"]:
                pytest.fail("the evaluation continued")
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


@pytest.mark.slow
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
def test_a_second_ctrl_c_leaves_at_once_without_damage(config, tmp_path):
    config.update_from_flattened_dict(SETTINGS | LONG)
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
    assert train(config, tmp_path / "run")["status"] == "finished"
    train(config, tmp_path / "whole")
    assert figures(tmp_path / "run") == figures(tmp_path / "whole")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR2", "SIGHUP"])
def test_a_signal_before_training_gives_status_75_too(commands, tmp_path, name):
    program = INTERRUPTED.format(part="data.load", name=name)
    done = commands("main", *words_of(tmp_path / "run"), program=program)
    assert (done.returncode, done.stderr.startswith("Stopped before training")) == (75, True)
    assert not (tmp_path / "run").exists()


def test_a_signal_at_the_end_lets_the_run_finish(commands, whole, tmp_path):
    program = INTERRUPTED.format(part="record.RunRecord.finish", name="SIGTERM")
    done = commands("main", *words_of(tmp_path / "run"), program=program)
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "run" / "summary.json")["status"] == "finished"
    assert figures(tmp_path / "run") == figures(whole)


# Trains in a terminal of its own and closes that.
CLOSED = """
import os, pty, sys
process, terminal = pty.fork()
if process == 0:
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
said = b""
while b"steps/s" not in said:
    said += os.read(terminal, 4096)
os.close(terminal)
_, code = os.waitpid(process, 0)
sys.exit(os.waitstatus_to_exitcode(code))
"""


@pytest.mark.slow
def test_a_run_whose_terminal_closes_saves_a_checkpoint_although_it_can_no_longer_print(tmp_path):
    with start(["-c", CLOSED, *command(tmp_path / "run", steps=100_000)]) as process:
        assert finish(process)[0] == 75
    summary = read_json(tmp_path / "run" / "summary.json")
    assert summary["status"] == "preempted"
    assert saved_step(tmp_path / "run") == summary["steps"]
