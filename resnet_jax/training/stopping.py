"""Requests to stop a run: Ctrl-C, SIGTERM, or SIGUSR2, which announces the end of a Slurm job's time."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from resnet_jax.terminal import console

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


@contextlib.contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether a signal has asked this process to stop.

    When the same signal comes a second time, the process exits at once with status 128 plus the signal's number; only
    the steps since the last checkpoint are lost. Signals of two kinds count as one request: Ctrl-C reaches a sweep and
    its runs, and the sweep then sends SIGTERM to the runs.
    """
    asked = threading.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def listen() -> None:
        """Answer signals even while the main thread waits for a compiler or a device and runs no Python."""
        received: set[int] = set()
        while byte := os.read(reader, 1):
            number = byte[0]
            if number not in STOP_SIGNALS:
                continue
            if number in received:
                console.show_cursor()
                os.write(2, b"Quit without a checkpoint; the same command resumes from the last one.\n")
                os._exit(128 + number)
            if not received:
                console.print("Stopping after this step; press Ctrl-C again to quit now, without a checkpoint.")
            received.add(number)

    previous = {number: signal.signal(number, lambda *_: asked.set()) for number in STOP_SIGNALS}
    previous_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield asked.is_set
    finally:
        signal.set_wakeup_fd(previous_fd)
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(writer)
        listener.join()
        os.close(reader)
