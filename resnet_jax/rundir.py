"""The run directory: everything a run leaves behind, and the only thing that analysis reads.

::

    config.json        the whole resolved config, and the command that started the run
    environment.json   for each start of the run: versions, devices, hosts, git revision, XLA flags
    metrics.jsonl      one object a line: step, epoch, split, loss, error, lr, images_per_second,
                       data_wait, seconds
    tensorboard/       the same scalars as event files
    checkpoints/       Orbax
    lock               held by the process that writes here
    diverged.json      where the loss became non-finite (inf or NaN): the step and its examples
    summary.json       written last: status "finished", "diverged" or "preempted", final and best figures

Errors are fractions. ``docs/architecture.md`` describes every field.
"""

import contextlib
import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from resnet_jax.errors import UserError

FORMAT_VERSION = 1


def read_json(path: pathlib.Path) -> Any:
    """Return the content of the JSON file ``path``, None if there is no such file.

    Raises:
      UserError: the file is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); remove it or give another folder.") from error


def read_config(workdir: pathlib.Path) -> dict[str, Any] | None:
    """Return the content of ``config.json`` in ``workdir``, None if there is no such file.

    Raises:
      UserError: it is not the config of a run.
    """
    content = read_json(workdir / "config.json")
    if content is None:
        return None
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict) or "command" not in content:
        raise UserError(f"{workdir / 'config.json'} is not the config of a run; remove it or give another folder.")
    return content


def write_json(path: pathlib.Path, content: Any) -> None:
    """Write ``content`` to ``path`` whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Write ``text`` to ``path`` whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # Else a power cut could leave an empty file under the final name.
    partial.replace(path)


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
    """Turn a failure to write under ``path``, such as a full disk, into a UserError."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
        else:  # Perhaps from TensorStore, which writes checkpoints.
            code = re.search(r"\bos_error_code='(\d+)'", str(error))
            if code is None:
                raise
            reason = os.strerror(int(code[1]))
        raise UserError(
            f"{path} cannot be written ({reason}); correct that and start the same command again, which resumes "
            "from the last checkpoint, or give another --workdir."
        ) from error


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """Return the complete lines of ``metrics.jsonl``; none if there is no such file.

    Raises:
      UserError: a complete line is not JSON.
    """
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    try:
        return [json.loads(line) for line in lines[:-1]]
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); remove the damaged lines or the run.") from error


def saved_step(workdir: pathlib.Path) -> int:
    """Return the steps of the newest checkpoint in ``workdir``, 0 if there is none."""
    checkpoints = workdir / "checkpoints"
    names = [path.name for path in checkpoints.iterdir()] if checkpoints.is_dir() else []
    return max((int(name) for name in names if name.isdecimal()), default=0)  # Others are still being written.


def cut_off(metrics: pathlib.Path) -> bool:
    """Return whether the last line of the file ``metrics`` is incomplete."""
    if not metrics.exists() or metrics.stat().st_size == 0:
        return False
    with metrics.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) != b"\n"


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested ``config`` as one level with dotted names, and its tuples as lists, as JSON has them."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat
