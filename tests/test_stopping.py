"""Signals: the first asks a run to stop, the second ends the process at once."""

import os
import signal
import subprocess
import sys

import pytest

from resnet_jax.stopping import STOP_SIGNALS, stop_request

# As a compiler does, the digest keeps the main thread from running any Python, but other threads may.
BUSY = """
import hashlib, sys
from resnet_jax.stopping import stop_request
with stop_request():
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_signal_asks_and_the_handlers_are_put_back(number):
    before = signal.getsignal(number)
    with stop_request() as stopping:
        assert not stopping()
        signal.raise_signal(number)
        assert stopping()
    assert signal.getsignal(number) is before
    assert signal.set_wakeup_fd(-1) == -1


def test_signals_of_two_kinds_ask_but_once():
    """As when Ctrl-C reaches a sweep and its runs, and the sweep then ends these by SIGTERM."""
    with stop_request() as stopping:
        for number in STOP_SIGNALS:
            signal.raise_signal(number)
        assert stopping()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_the_process_at_once_whatever_it_does(number):
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"busy\n"
        process.send_signal(number)
        assert (
            process.stderr.readline()
            == b"Stopping after this step; press Ctrl-C again to quit now, without a checkpoint.\n"
        )
        process.send_signal(number)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert said == b"Quit without a checkpoint; the same command resumes from the last one.\n"


def run_program(program):
    """Return the status and output of Python on ``program``, which has ``send`` for signals to itself."""
    begin = (
        "import os, signal, subprocess, sys, time\n"
        "from resnet_jax import stopping\n"
        "def send(number):\n    os.kill(os.getpid(), number); time.sleep(0.3)\n"
    )
    words = [sys.executable, "-c", begin + program]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_before_there_is_a_run_to_stop_the_first_signal_ends_the_command_with_status_75(number):
    status, _, said = run_program(f"stopping.listen(); send({int(number)}); print('still here')")
    assert (status, said) == (75, "Stopped before training; start the same command again.\n")


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_after_its_run_a_first_signal_does_not_change_the_status_even_while_python_ends(number):
    program = f"""
import atexit
stopping.listen()
atexit.register(send, {int(number)})
with stopping.stop_request() as asked:
    pass
send({int(number)})
print("done", asked())
sys.exit(3)
"""
    # Of two kinds, because the second of one kind quits.
    other = signal.SIGTERM if number != signal.SIGTERM else signal.SIGINT
    program = program.replace(f"atexit.register(send, {int(number)})", f"atexit.register(send, {int(other)})")
    assert run_program(program) == (3, "done True\n", "")


def test_a_second_signal_quits_also_after_the_run():
    status, _, _ = run_program("stopping.listen()\nwith stopping.stop_request(): pass\nsend(15); send(15)")
    assert status == 128 + 15


def test_where_several_processes_stop_together_a_signal_before_the_run_waits_for_it():
    program = (
        "stopping.listen(); stopping.wait_for_run(); send(15)\nwith stopping.stop_request() as asked: print(asked())"
    )
    assert run_program(program) == (0, "True\n", "")


def test_a_closed_terminal_is_ignored_if_it_was_from_the_start_as_by_nohup():
    ignored = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    program = f"{ignored}; stopping.listen(); send(signal.SIGHUP); print('still here')"
    assert run_program(program) == (0, "still here\n", "")


def test_signals_of_a_child_are_its_own():
    program = """
stopping.listen()
child = os.fork()
if child == 0:
    time.sleep(60)
time.sleep(0.3)
os.kill(child, signal.SIGTERM)
_, code = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(code))
"""
    assert run_program(program) == (0, "-15\n", "")


# Any import of a command that is not of the standard library stands for all of them.
HANGS = "import sys, time; print('importing', file=sys.stderr, flush=True); time.sleep(100)"


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_training_listens_before_its_imports(tmp_path, number):
    (tmp_path / "rich.py").write_text(HANGS)
    with subprocess.Popen(
        [sys.executable, "-m", "experiments.main", "--config=configs/digits_plain20.py"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr.readline() == b"importing\n"
        process.send_signal(number)
        assert process.wait(60) == 75
