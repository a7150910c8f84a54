"""The terminal: text is shown as it is, without markup, and control characters as escapes; and what takes its place."""

import contextlib
import io
import os
import pathlib
import sys
from typing import Any, TextIO

from rich.console import Console
from rich.progress import Task, TextColumn
from rich.text import Text

from resnet_jax.escape import printable, printable_lines


class Terminal(Console):
    """A console that takes no text for markup or emoji, and escapes control characters."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Return ``text``, which rich gets from tables and prints, as it is shown."""
        return super().render_str(printable_lines(text), **settings)


class PlainColumn(TextColumn):
    """A column of a progress bar that shows text as it is."""

    def __init__(self, text_format: str) -> None:
        super().__init__(text_format, markup=False)

    def render(self, task: Task) -> Text:
        """Return the text for ``task``."""
        return Text(printable(super().render(task).plain))


# Standard error, where the log goes: both must use one console or they write over each other.
console = Terminal(stderr=True)
# Standard output, for tables.
stdout = Terminal()


def say(text: str) -> None:
    """Print ``text`` to standard output, as one line."""
    print(printable(text), flush=True)


class _Output(io.FileIO):
    """A file descriptor for output that drops what cannot be written: to ``| head``, a full disk, a closed terminal."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError:
            return memoryview(content).nbytes


def keep_printing_from_failing() -> None:
    """Let nothing that this process prints raise an exception, because a run must not fail for want of a reader."""
    sys.stdout, sys.stderr = unfailing(sys.stdout), unfailing(sys.stderr)


def unfailing(stream: TextIO | None) -> TextIO:
    """Return a stream to the file of ``stream``, standard output or error, that raises no exception."""
    if stream is None:  # It was closed from the start.
        return pathlib.Path(os.devnull).open("w", encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper):  # In a notebook or a test.
        return stream
    file = _Output(stream.fileno(), "w", closefd=False)
    with contextlib.suppress(OSError):
        stream.flush()
    buffer = file if stream.write_through else io.BufferedWriter(file)
    return io.TextIOWrapper(
        buffer,
        encoding=stream.encoding,
        errors="backslashreplace",  # Of characters that the locale's encoding lacks.
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
