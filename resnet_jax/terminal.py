"""The terminal: text is shown as it is, without markup, and control characters as escapes."""

from typing import Any

from rich.console import Console
from rich.progress import TextColumn
from rich.text import Text

from resnet_jax.escape import printable, printable_lines


class Terminal(Console):
    """A console that takes no text for markup or emoji, and escapes control characters."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Return ``text``, which rich gets from tables and prints, as it is shown."""
        return super().render_str(printable_lines(text), **settings)


# Standard error, where the log goes: both must use one console or they write over each other.
console = Terminal(stderr=True)
# Standard output, for tables.
output = Terminal()
# The column of a progress bar that describes the task.
DESCRIPTION = TextColumn("{task.description}", markup=False)


def say(text: str) -> None:
    """Print ``text`` to standard output, as one line."""
    print(printable(text), flush=True)
