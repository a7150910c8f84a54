"""The terminal: text is shown as it is, without markup, and control characters as escapes."""

from typing import Any

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
