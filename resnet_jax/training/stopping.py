"""Asking a run to stop: by Ctrl-C, by SIGTERM, or by SIGUSR2, with which Slurm announces that a job's time is over."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from resnet_jax.training.progress import console

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


@contextlib.contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """Give a function that says whether to stop has been asked; after the same signal again the process exits at once.

    Its exit status is then 128 and the signal's number, and nothing is lost but the steps since the last checkpoint, as
    by any other end. Signals of two kinds ask once: Ctrl-C reaches a sweep and its runs, which the sweep then ends by
    SIGTERM.
    """
    asked = threading.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def listen() -> None:
        """Answer signals also while the main thread waits for a compiler or a device and runs no Python."""
        received: set[int] = set()
        while byte := os.read(reader, 1):
            number = byte[0]
            if number not in STOP_SIGNALS:
                continue
            if number in received:
                console.show_cursor()
                os.write(2, b"Left at once; the same command continues from the last checkpoint.\n")
                os._exit(128 + number)
            if not received:
                console.print("Stopping after this step; again to leave at once, without a checkpoint.")
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
