"""The terminal."""

from rich.console import Console

# Standard error, where the log goes: both must use one console or they write over each other.
console = Console(stderr=True)
