"""Signals: the first asks a run to stop, the second ends the process at once."""

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
