"""Measurements of instruments in ``diagnosis/NAME.jsonl``: one object a line, appended and never overwritten."""

import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.instruments import INSTRUMENTS, Subject
from resnet_jax.safe_files import files_below, open_own, read_lines, within
from resnet_jax.schema import COUNT, SECONDS, Maybe, Number
from resnet_jax.training.environment import environment

VERSION = 1
FOLDER = "diagnosis"
# Fields of a line and their types; each instrument defines its own "result".
MEASUREMENT = {
    "instrument": str,
    "net": str,
    "model": {"residual": bool, "depth": Number(1, 10**6, whole=True)},
    "run": str,
    "seed": Maybe(Number(whole=True)),
    "data": str,
    "step": Maybe(COUNT),
    "settings": {"batch": COUNT, "examples": COUNT},
    "statistics": str,
    "blocks": [str],
    "result": dict,
    "seconds": SECONDS,
    "command": [str],
    "environment": dict,
}


class Measurement(NamedTuple):
    """One measurement, and how to repeat it.

    Attributes:
      instrument: name of the instrument.
      net: title of the net, such as "plain-56".
      model: ``config.model``.
      run: name of the run or of the weights file.
      seed: seed of the run; None for weights.
      data: name of the data set.
      step: number of training steps; None for weights.
      settings: fields of ``Settings``, and others that the instrument lets vary.
      statistics: statistics of batch norms in functions of the net, "batch" or "running".
      blocks: names of the blocks in forward order.
      result: numbers of the instrument, described in its module.
      seconds: wall time, compiling included.
      command: words of the command line.
      environment: versions, device and date, as in ``environment.json``; "warnings" if the data have changed.
    """

    instrument: str
    net: str
    model: dict[str, Any]
    run: str
    seed: int | None
    data: str
    step: int | None
    settings: dict[str, Any]
    statistics: str
    blocks: list[str]
    result: dict[str, Any]
    seconds: float
    command: list[str]
    environment: dict[str, Any]

    def matches(self, step: int | None, settings: dict[str, Any]) -> bool:
        """Return whether it was measured after ``step`` with ``settings``."""
        return (self.step, self.settings) == (step, settings)


def measure(name: str, subject: Subject, command: Sequence[str] = ()) -> Measurement:
    """Return the measurement of ``subject`` by the instrument ``name``, which ``add`` keeps.

    Args:
      name: one of ``INSTRUMENTS``.
      subject: to measure.
      command: words of the command line, if there is one.

    Raises:
      UserError: the net does not have the quantity that the instrument measures.
    """
    start = time.perf_counter()
    result = plain(INSTRUMENTS[name].measure(subject))
    return Measurement(
        instrument=name,
        net=subject.net.title,
        model=subject.net.config.to_dict(),
        run=subject.name,
        seed=subject.seed,
        data=subject.data,
        step=subject.step,
        settings=subject.settings._asdict(),
        statistics="running" if subject.has_running_statistics else "batch",
        blocks=[block.name for block in subject.net.blocks],
        result=result,
        seconds=round(time.perf_counter() - start, 2),
        command=list(command),
        environment=environment() | ({"warnings": [*subject.warnings]} if subject.warnings else {}),
    )


def add(folder: pathlib.Path, measurement: Measurement) -> None:
    """Append ``measurement`` to the file of its instrument in ``folder``, a run directory or another folder.

    Raises:
      UserError: the folder cannot be written.
    """
    line = json.dumps({"version": VERSION} | plain(measurement._asdict()))
    path = folder / FOLDER / f"{measurement.instrument}.jsonl"
    try:
        within(path.parent).mkdir(parents=True, exist_ok=True)
        with open_own(path, "ab+") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)  # A line that a killed process left incomplete.
            file.write(f"{line}\n".encode())
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); correct that or give --out.") from error


def read(folder: pathlib.Path, instrument: str | None = None) -> list[Measurement]:
    """Return the measurements in ``folder`` in their order of time, by default those from all instruments.

    Raises:
      UserError: a file is damaged.
    """
    return [
        Measurement(**{name: line.get(name) for name in Measurement._fields})
        for path in sorted(files_below(folder / FOLDER))
        if path.match(f"{instrument or '*'}.jsonl")
        for line in read_lines(within(path, folder), MEASUREMENT, "remove it and measure again")
    ]


def plain(value: Any) -> Any:
    """Return ``value`` for JSON: arrays as lists, non-finite numbers as None."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value
