"""The run directory, a contract: all that a run leaves behind, and the only thing that passes on to analysis.

::

    config.json        the whole resolved config, and the command that made it
    environment.json   for each start of the run: versions, devices, hosts, git revision, XLA flags
    metrics.jsonl      one object a line: step, epoch, split, loss, error, lr, images_per_second, seconds
    tensorboard/       the same scalars as event files
    checkpoints/       Orbax
    summary.json       written last: status "finished", "diverged" or "preempted", final and best figures

Errors are fractions. ``docs/architecture.md`` describes every field.
"""

import json
import pathlib
from typing import Any

from resnet_jax.errors import UserError

FORMAT_VERSION = 1


def read_json(path: pathlib.Path) -> Any:
    """Return the content of JSON file ``path``, None if there is no such file.

    Raises:
      UserError: the file is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path} is no valid JSON ({error}); remove it or choose another folder.") from error


def write_json(path: pathlib.Path, content: Any) -> None:
    """Write ``content`` to ``path`` whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Write ``text`` to ``path`` whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """Return the lines of ``metrics.jsonl`` but for a last one that was cut off; none if there is no such file.

    Raises:
      UserError: a whole line is not JSON.
    """
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    try:
        return [json.loads(line) for line in lines[:-1]]
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); remove the damaged lines or the run.") from error


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested ``config`` with dotted names, as overrides spell them, and lists for tuples, as JSON has them."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat
