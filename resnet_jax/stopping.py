"""Requests to stop a run: Ctrl-C, SIGTERM, SIGHUP of a closed terminal, SIGUSR2 before the end of a Slurm job's time.

Imports only the standard library, so that a command can listen before its other imports, which take seconds.
"""

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: try again.
# Under nohup SIGHUP is ignored from the start, and stays so.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP)
SHOW_CURSOR = b"\033[?25h"


class _Listener:
    """Receives the signals of this process, in a thread of its own.

    The thread answers even while the main thread waits for a compiler or a device and runs no Python.

    Attributes:
      asked: set by the first signal.
      exits: whether the first signal ends the process, because there is nothing to save yet.
      trains: whether there is a run to stop.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.exits = self.trains = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        numbers = [each for each in STOP_SIGNALS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]
        self._previous = {number: signal.signal(number, self._set_asked) for number in numbers}
        self._previous_fd = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _set_asked(self, number: int, frame: FrameType | None) -> None:
        self.asked.set()

    def _listen(self) -> None:
        received: set[int] = set()
        while byte := os.read(self._reader, 1):
            number = byte[0]
            if number not in self._previous:
                continue
            if self.exits:
                quit_at_once(EXIT_PREEMPTED, "Stopped before training; start the same command again.")
            if number in received:
                quit_at_once(128 + number, "Quit without a checkpoint; the same command resumes from the last one.")
            if self.trains and not received:
                announce()
            received.add(number)

    def put_back(self) -> None:
        """Give the signals back to whatever received them before."""
        signal.set_wakeup_fd(self._previous_fd)
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def close(self) -> None:
        """Stop listening."""
        self.put_back()
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)

    def ignore(self) -> None:
        """Ignore the signals until the process ends."""
        for number in self._previous:
            signal.signal(number, signal.SIG_IGN)


def quit_at_once(status: int, sentence: str) -> NoReturn:
    """Print ``sentence`` and exit with ``status``."""
    with contextlib.suppress(OSError):  # The terminal may be gone.
        os.write(2, SHOW_CURSOR * os.isatty(2) + f"{sentence}\n".encode())
    os._exit(status)


def announce() -> None:
    """Print that the run will stop, above its progress line."""
    from resnet_jax.terminal import console

    with contextlib.suppress(OSError):
        console.print("Stopping after this step; press Ctrl-C again to quit now, without a checkpoint.")


_of_process: _Listener | None = None


def listen() -> None:
    """Make signals that come after this end this process with status 75, or stop its run.

    Until there is a run to stop, the first signal ends the process at once; once the run is over, a first signal lets
    the process end as it would have.
    """
    global _of_process
    _of_process = _Listener()
    _of_process.exits = True
    # What is registered first is called last: between here and the end of the process no signal changes the status.
    atexit.register(_of_process.ignore)
    # A child would write to the pipe of this process.
    os.register_at_fork(after_in_child=_of_process.put_back)


def wait_for_run() -> None:
    """Let signals wait until there is a run to stop, because several processes must stop at the same step."""
    if _of_process is not None:
        _of_process.exits = False


@contextlib.contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether a signal has asked this process to stop its run.

    When the same signal comes a second time, the process exits at once with status 128 plus the signal's number; only
    the steps since the last checkpoint are lost. Signals of two kinds count as one request: Ctrl-C reaches a sweep and
    its runs, and the sweep then sends SIGTERM to the runs.
    """
    listener = _of_process or _Listener()
    listener.exits, listener.trains = False, True
    try:
        yield listener.asked.is_set
    finally:
        listener.trains = False
        if listener is not _of_process:
            listener.close()
