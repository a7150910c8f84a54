"""The run directory: everything a run writes, and all that analysis reads.

::

    config.json        version of this format, the whole resolved config, the command that started the run, and the
                       files that define nets and blocks of the user's own
    identity.json      digests of config, data and versions at the first start, and the names of the classes
    normalisation.json by what images are normalised
    environment.json   for each start of the run: versions, devices, hosts, git revision, XLA flags
    metrics.jsonl      one object a line: step, epoch, split, loss, error, lr, images_per_second,
                       data_wait, seconds
    tensorboard/       the same scalars as event files
    checkpoints/       Orbax; the newest two
    kept/              Orbax; the nets after the steps of config.keep_checkpoints, without the optimiser's state
    diagnosis/         of experiments.diagnose: a file for each instrument, one object a line
    lock               held by the process that writes here
    diverged.json      where the loss became non-finite (inf or NaN): the step and its examples
    summary.json       written last: status "finished", "diverged" or "preempted", final and best figures
    surgery.json       of a net that experiments.surgery made: from what, how, and what was checked

Errors are fractions. ``docs/reference.md`` describes every field.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from resnet_jax import registry, schema
from resnet_jax.config import flatten, from_record, unknown_choice
from resnet_jax.errors import UserError
from resnet_jax.fields import FIELDS
from resnet_jax.safe_files import parsed, read_bytes, read_json, within, write_json, write_text
from resnet_jax.schema import COUNT, FRACTION, LARGE_COUNT, SECONDS, Array, Each, Maybe, Number, OneOf

# 2: milestones are fractions of the steps, which version 1 gave in steps. Every version is read.
FORMAT_VERSION = 2
# Status of a run directory that holds a net of experiments.surgery, not a training run.
MADE_BY_SURGERY = "made by surgery"
FIGURES = {"step": COUNT, "loss": Maybe(Number()), "error": FRACTION}
METRICS = FIGURES | {
    "split": str,
    "epoch": Maybe(Number(0)),
    "lr": Maybe(Number(0)),
    "images_per_second": Maybe(Number(0)),
    "data_wait": Maybe(Number(0)),
    "seconds": SECONDS,
}
SUMMARY = {
    "status": OneOf(("finished", "diverged", "preempted", MADE_BY_SURGERY)),
    "steps": COUNT,
    "seconds": SECONDS,
    "parameters": LARGE_COUNT,
    "multiply_adds": LARGE_COUNT,
    "final": Each(FIGURES),
    "best": Each(FIGURES),
}
ENVIRONMENT = {
    "time": str,
    "device_kind": str,
    "device_count": COUNT,
    "packages": Each(Maybe(str)),
    "git_revision": Maybe(str),
    "git_dirty": Maybe(bool),
    "git_changed": Maybe([str]),
}
SWEEP = {
    "file": Maybe(str),
    "question": Maybe(str),
    "command": Maybe([str]),
    "literature": Maybe(Each((str, str))),
    "tuned": Maybe(Each(Maybe(Number()))),
    "runs": Each(dict),
}
# The folder of nets that are kept for good.
KEPT = "kept"
# What a process says, after "--workdir=DIR", of a run directory that another process has locked.
IN_USE = "is in use by"


# Bytes to read from the end of metrics.jsonl, until they are enough; a line has about 150.
TAILS = (2**16, 2**18, 2**20, 2**22)


class Newest(NamedTuple):
    """The last lines of ``metrics.jsonl``.

    Attributes:
      lines: oldest first.
      is_all: whether the file has no others.
    """

    lines: list[dict[str, Any]]
    is_all: bool


class RecordedConfig(NamedTuple):
    """What ``config.json`` says, in the fields of today.

    Attributes:
      config: the whole resolved config.
      command: the words that began the run.
      registered: what the config uses of the user's own nets and blocks.
    """

    config: ConfigDict
    command: list[str]
    registered: list[registry.Registration]


def read_summary(workdir: pathlib.Path) -> dict[str, Any] | None:
    """Return the content of ``summary.json`` in ``workdir``, None if there is no such file.

    Raises:
      UserError: it is damaged, or has figures that cannot be.
    """
    return read_json(workdir / "summary.json", SUMMARY)


def read_environments(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Return the content of ``environment.json`` in ``workdir``, one entry a start; none if there is no such file.

    Raises:
      UserError: it is damaged.
    """
    return read_json(workdir / "environment.json", [ENVIRONMENT]) or []


def read_sweep(folder: pathlib.Path) -> dict[str, Any] | None:
    """Return the content of ``sweep.json`` in ``folder``, None if there is no such file; missing parts are empty.

    Raises:
      UserError: it is damaged, or a name of a run in it leads out of ``folder``.
    """
    path = folder / "sweep.json"
    content = read_json(path, SWEEP)
    if content is None:
        return None
    for name in content["runs"]:
        if pathlib.PurePath(name).parts != (name,) or name == ".." or not name.isprintable():
            raise UserError(
                f"{path} has a run {name!r}, which is not the name of a folder; rename it there or remove the file."
            )
        within(folder / name)
    empty = {"file": "", "question": "", "command": [], "literature": {}, "tuned": {}}
    return empty | {name: value for name, value in content.items() if value is not None}


def read_config(workdir: pathlib.Path, known: bool = True) -> RecordedConfig | None:
    """Return the content of ``config.json`` in ``workdir``, None if there is no such file.

    Args:
      workdir: the run directory.
      known: whether the user's own nets and blocks must be registered here too, as titles and fields of a net need.

    Raises:
      UserError: it is not the config of a run, or of a newer version of this project, or it uses a net or block that is
        not registered here.
    """
    path = workdir / "config.json"
    content = read_json(path)
    if content is None:
        return None
    try:
        schema.check(content, {"version": Number(1, whole=True), "command": [str], "config": dict})
        version = content["version"]
        if version > FORMAT_VERSION:
            raise UserError(f"format version {version}, of a newer version of this project; update this one.")
        registered = registry.from_record(content.get("registered", []))
        recorded = RecordedConfig(from_record(content["config"], version), content["command"], registered)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not the config of a run; remove it or give another folder.") from error
    if known:
        registry.check_registered(registered, workdir)
        for name, value in flatten(recorded.config.to_dict()).items():
            if name in registry.EXTENSIBLE and value not in FIELDS[name].choices:
                raise UserError(f"{path}: {unknown_choice(name, value)}")
    return recorded


def write_config(workdir: pathlib.Path, config: ConfigDict, command: list[str]) -> None:
    """Write ``config.json`` to ``workdir``, as ``read_config`` reads it."""
    content = {"version": FORMAT_VERSION, "command": command, "config": config.to_dict()}
    registered = [each._asdict() for each in registry.used_by(flatten(content["config"]))]
    write_json(workdir / "config.json", content | ({"registered": registered} if registered else {}))


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """Return the complete lines of ``metrics.jsonl``; none if there is no such file.

    Raises:
      UserError: the file cannot be read, or a complete line is damaged or has figures that cannot be.
    """
    return parsed(path, read_bytes(path) or b"", METRICS, "remove that line or the run")


def newest_metrics(path: pathlib.Path, is_enough: Callable[[list[dict[str, Any]]], bool]) -> Newest:
    """Return the last lines of ``metrics.jsonl``, read from its end: as many as are enough, in at most 4 MiB.

    Args:
      path: of the file, to which a process may be writing.
      is_enough: whether the lines found so far are enough.

    Raises:
      UserError: one of these lines is damaged.
    """
    if not path.is_file():
        return Newest([], is_all=True)
    with within(path).open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        for size in TAILS:
            begin = file.seek(max(0, end - size))
            block = file.read(end - begin)
            if begin:  # The first line of the block is only the end of one.
                block = block.partition(b"\n")[2]
            lines = parsed(path, block, METRICS, "remove that line or the run", is_all=begin == 0)
            if begin == 0 or is_enough(lines):
                break
    return Newest(lines, is_all=begin == 0)


def saved_steps(workdir: pathlib.Path, folder: str = "checkpoints") -> list[int]:
    """Return the steps of each checkpoint in ``folder`` of ``workdir``, rising."""
    checkpoints = within(workdir / folder)
    names = [path.name for path in checkpoints.iterdir()] if checkpoints.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal())  # Others are still being written.


def saved_step(workdir: pathlib.Path) -> int:
    """Return the steps of the newest checkpoint in ``workdir``, 0 if there is none."""
    return max(saved_steps(workdir), default=0)


def cut_off(metrics: pathlib.Path) -> bool:
    """Return whether the last line of the file ``metrics`` is incomplete."""
    if not metrics.is_file() or metrics.stat().st_size == 0:
        return False
    with within(metrics).open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) != b"\n"


def write_normalisation(workdir: pathlib.Path, mean: np.ndarray, std: np.ndarray | None, run: dict[str, Any]) -> None:
    """Write by what images are normalised, so that the net can be used without the data it was trained on.

    Args:
      workdir: the run directory.
      mean: subtracted from pixels.
      std: divides the result; None for 1.
      run: the identity of the run, ``Identity.of_checkpoint``, to which the values are bound.
    """
    content = {"mean": mean.tolist(), "std": None if std is None else std.tolist()}
    write_text(workdir / "normalisation.json", json.dumps(content | {"sha256": bound(content, run)}) + "\n")


def read_normalisation(workdir: pathlib.Path, run: dict[str, Any]) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Return by what ``run`` in ``workdir`` normalises images, as ``data.normalisation``; None if it is not recorded.

    Raises:
      UserError: the record is damaged, has been changed or is of another run.
    """
    path = workdir / "normalisation.json"
    content = read_json(path, {"mean": Array(3), "std": Maybe(Array(3)), "sha256": str})
    if content is None:
        return None
    values = {name: content.get(name) for name in ("mean", "std")}
    if content["sha256"] != bound(values, run):
        raise UserError(
            f"{path} is damaged: it was changed or is of another run; restore it, or remove it, and the data are read "
            "instead."
        )
    mean, std = (value and np.array(value, np.float32) for value in values.values())
    return mean, std


def bound(normalisation: dict[str, Any], run: dict[str, Any]) -> str:
    """Return the SHA-256 of ``normalisation`` and the identity of its ``run``."""
    return hashlib.sha256(json.dumps([normalisation, run], sort_keys=True).encode()).hexdigest()
