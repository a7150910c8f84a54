"""Panels: plots over depth or steps with a statement, and the lines in them."""

import functools
import operator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from resnet_jax.analysis.diagnosed import Diagnosed, Groups
from resnet_jax.report.display import CLASSES, chance, classes_of


class Line(NamedTuple):
    """A line of a plot, with one row of values for each seed.

    Attributes:
      label: in the legend.
      depth: of the net, by which lines are coloured; None: by their order.
      is_dashed: whether it is drawn dashed.
      x: ``[points]``.
      values: ``[seeds, points]``, with NaN where there is none.
      marks: places of ``x`` at which a stage begins.
      classes: number of classes of the data; None if it is not known.
    """

    label: str
    depth: int | None
    is_dashed: bool
    x: np.ndarray
    values: np.ndarray
    marks: tuple[int, ...] = ()
    classes: int | None = None


class Plot(NamedTuple):
    """One plot of a panel.

    Attributes:
      title: above it.
      x: label of its axis.
      y: label of its axis.
      lines: of it.
      is_log: whether the y axis is logarithmic.
      ticks: names of the places of x, whose values are then drawn as horizontal bars.
    """

    title: str
    x: str
    y: str
    lines: list[Line]
    is_log: bool = False
    ticks: tuple[str, ...] = ()

    @property
    def guessing(self) -> float | None:
        """The error of guessing, a fraction; None unless the plot shows errors for a known number of classes."""
        counts = {line.classes for line in self.lines}
        return chance(counts.pop()) if "error" in self.y and "(%)" in self.y and len(counts) == 1 else None


class Panel(NamedTuple):
    """One panel of the page.

    Attributes:
      name: of its file.
      title: its heading.
      plots: plots in one row.
      note: images, mode of batch norm and steps.
      says: its sentence.
    """

    name: str
    title: str
    plots: list[Plot]
    note: str
    says: str


def over_blocks(groups: Groups, instrument: str, when: int | str, *keys: str) -> list[Line]:
    """Return a line over blocks for each net whose result has ``keys``, one within the other."""
    lines = []
    for label, seeds in groups.items():
        found = [each.found(instrument, when) for each in seeds]
        rows = [
            (each.blocks, functools.reduce(operator.getitem, keys, each.result))
            for each in found
            if each and each.result.get(keys[0]) is not None
        ]
        if not rows:
            continue
        blocks, _ = rows[0]
        stages = [name.partition("/")[0] for name in blocks]
        marks = tuple(place for place in range(1, len(stages)) if stages[place] != stages[place - 1])
        values = np.array([[np.nan if value is None else value for value in row] for _, row in rows], float)
        lines.append(line_of(label, seeds[0], np.arange(1, len(blocks) + 1), values, marks))
    return lines


def line_of(label: str, net: Diagnosed, x: np.ndarray, values: np.ndarray, marks: tuple[int, ...] = ()) -> Line:
    """Return the line of ``net``, dashed if the net is plain."""
    classes = classes_of(net.run) if net.run else CLASSES.get(net.measurements[0].data)
    return Line(label, net.depth, not net.residual, x, values, marks, classes)


def note_of(groups: Groups, instrument: str, *steps: int | str, is_training: bool = False) -> str:
    """Return the images, statistics and seeds of a panel; ``is_training``: statistics are always a batch's."""
    nets = [net for seeds in groups.values() for net in seeds]
    found = [each for when in steps for net in nets if (each := net.found(instrument, when))]
    if not found:
        return ""
    settings = found[0].settings
    statistics = {"batch"} if is_training else {each.statistics for each in found}
    modes = " or ".join(f"{name} statistics" for name in sorted(statistics))
    seeds = sorted({len(each) for each in groups.values()})
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return (
        f"Batches of {settings['batch']} of {settings['examples']} images, {modes}. Median and range of {count} "
        f"seed{'s' * (seeds[-1] > 1)}; dots where a stage begins, plain nets dashed."
    )


def in_per_cent(lines: list[Line]) -> list[Line]:
    """Return ``lines`` of fractions in per cent."""
    return [line._replace(values=100 * line.values) for line in lines]


def last_of(values: Sequence[float] | None) -> float | None:
    """Return the last of ``values``, None if there are none."""
    return values[-1] if values else None


def short(value: float) -> str:
    """Return ``value`` with two significant digits at least."""
    return f"{value:.2g}" if abs(value) < 10 else f"{value:.0f}"


def percent(value: float) -> str:
    """Return ``value``, a fraction, in per cent."""
    return f"{100 * value:.1f} %"


def three_digits(value: float) -> str:
    """Return ``value`` with three decimals."""
    return f"{value:.3f}"
