"""Nets that instruments have measured, from their run directories or the folders of weights."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from resnet_jax.analysis.runs import Replicates, Run
from resnet_jax.errors import UserError
from resnet_jax.instruments import END, record
from resnet_jax.instruments.record import Measurement

# The step of measurements before training; that of the last ones, and of weights from elsewhere, is END.
START = "start"


class Diagnosed(NamedTuple):
    """One net, of one seed, and what was measured of it.

    Attributes:
      label: what nets that differ in the seed alone are called, as "plain-56".
      residual: whether it has shortcuts.
      depth: weighted layers.
      name: of the run or the weights file.
      run: None for weights.
      measurements: all of them.
    """

    label: str
    residual: bool
    depth: int
    name: str
    run: Run | None
    measurements: list[Measurement]

    def found(self, instrument: str, when: int | str) -> Measurement | None:
        """Return the newest measurement of ``instrument`` at step ``when``, None if there is none."""
        wanted = 0 if when == START else when
        there = [each for each in self.measurements if each.instrument == instrument]
        last = max((each.step for each in self.measurements if each.step is not None), default=None)
        if when == END:
            there = [each for each in there if each.step == last and last != 0]
        else:
            there = [each for each in there if each.step == wanted]
        return there[-1] if there else None

    def result(self, instrument: str, when: int | str, key: str) -> Any:
        """Return ``key`` of the result of that measurement, None if there is none."""
        there = self.found(instrument, when)
        return None if there is None else there.result.get(key)


def read_diagnosed(folders: Sequence[pathlib.Path], nets: Sequence[Replicates]) -> list[Diagnosed]:
    """Return what was measured in and below ``folders``.

    Args:
      folders: with run directories, or folders of measured weights.
      nets: the runs that were read there, which give measured ones their names.

    Raises:
      UserError: a file is damaged.
    """
    runs = {run.folder.resolve(): (net, run) for net in nets for run in net.runs}
    measured = []
    for folder in folders:
        for path in sorted(
            pathlib.Path(each) for each, subfolders, _ in os.walk(folder) if record.FOLDER in subfolders
        ):
            measurements = record.read(path)
            if not measurements:
                continue
            first = measurements[0]
            net, run = runs.get(path.resolve(), (None, None))
            label = net.label if net else first.net
            measured.append(
                Diagnosed(label, first.model["residual"], first.model["depth"], first.run, run, measurements)
            )
    return measured


def check_any(measured: Sequence[Diagnosed], folders: Sequence[pathlib.Path]) -> None:
    """Raise a UserError if nothing was ``measured`` in ``folders``."""
    if not measured:
        raise UserError(
            f"nothing has been measured in {', '.join(map(str, folders))}; run experiments.diagnose on it first."
        )


def by_label(measured: Sequence[Diagnosed]) -> dict[str, list[Diagnosed]]:
    """Return the seeds of each net, plain nets first, then by depth."""
    ordered = sorted(measured, key=lambda each: (each.residual, each.depth, each.label))
    groups: dict[str, list[Diagnosed]] = {}
    for each in ordered:
        groups.setdefault(each.label, []).append(each)
    return groups
