"""The display of a run: a line at its start, progress on a terminal, log lines elsewhere, a table at the end."""

import datetime
import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, SupportsFloat

from absl import logging
from ml_collections import ConfigDict
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from resnet_jax import data, hosts, models
from resnet_jax.terminal import console
from resnet_jax.training.program import Program

SECONDS_BETWEEN_UPDATES = 0.25


def announce(config: ConfigDict, dataset: data.Dataset | data.Stream, program: Program) -> None:
    """Log the data set that a start has found, the net and the devices."""
    if not hosts.is_first_process():
        return
    parameters, _ = models.totals(models.describe(program.model, data.image_shape(dataset)))
    size = f"{parameters / 1e6:,.2f} M" if parameters >= 1e5 else f"{parameters:,}"
    devices = f"{program.mesh.size} device{'s' * (program.mesh.size > 1)}"
    net = models.title(config.model)
    logging.info("%s; %s, %s parameters, %s; compiling", data.contents(dataset), net, size, devices)


class Pace:
    """Measures steps per second of only training, without compiling, evaluating and saving."""

    def __init__(self, step: int) -> None:
        self.restart(step)

    def restart(self, step: int) -> None:
        """Start a new measurement, after ``step`` steps."""
        self._first_step, self._start = step, time.perf_counter()
        self._waited = 0.0

    def steps_per_second(self, step: int) -> float:
        """Return the mean since the last restart, NaN before the first step since then."""
        steps = step - self._first_step
        return steps / (time.perf_counter() - self._start) if steps else math.nan

    def data_waited(self, seconds: float) -> None:
        """Add ``seconds`` for which the devices waited for a batch."""
        self._waited += seconds

    def data_wait(self, step: int) -> float:
        """Return the share of the time since the last restart in which the devices waited for batches, NaN as above."""
        return self._waited / (time.perf_counter() - self._start) if step > self._first_step else math.nan


class ProgressLine:
    """Shows the progress of a run: percentage, steps/s, images/s, remaining time, current loss and error."""

    def __init__(self, first_step: int, steps: int, batch_size: int) -> None:
        self._steps = steps
        self._batch_size = batch_size
        self._last_update = 0.0
        self._live = Progress(
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._live.add_task("compiling", total=steps, completed=first_step)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, step: int, text: str) -> None:
        """Show ``text`` instead of the figures."""
        self._live.update(self._task, completed=step, description=text)

    def update(self, step: int, metrics: Mapping[str, SupportsFloat], pace: Pace) -> None:
        """Show the "loss" and "error" of ``metrics`` on a terminal, at most a few times a second."""
        if console.is_terminal and time.perf_counter() - self._last_update > SECONDS_BETWEEN_UPDATES:
            self._last_update = time.perf_counter()
            self._live.update(self._task, completed=step, description=self._figures(step, metrics, pace))

    def log(self, step: int, metrics: Mapping[str, SupportsFloat], pace: Pace) -> None:
        """Write the same as a line of the log where there is no terminal."""
        if not console.is_terminal:
            percentage = f"{step / self._steps:.1%}"
            logging.info("step %d/%d (%s): %s", step, self._steps, percentage, self._figures(step, metrics, pace))

    def _figures(self, step: int, metrics: Mapping[str, SupportsFloat], pace: Pace) -> str:
        rate = pace.steps_per_second(step)
        figures = f"loss {float(metrics['loss']):.3f}, error {float(metrics['error']):.2%}"
        if math.isnan(rate):
            return figures
        left = datetime.timedelta(seconds=round((self._steps - step) / rate))
        wait = pace.data_wait(step)
        waiting = f"{wait:.0%} waiting for data, " if wait > 0 else ""
        return f"{rate:.1f} steps/s, {rate * self._batch_size:,.0f} images/s, {waiting}ETA {left}, {figures}"


def summary_table(summary: dict[str, Any]) -> Table:
    """Return the final and best figures of a run as a table; errors in per cent."""
    table = Table(title=f"{summary['status']} after {summary['steps']:,} steps, {summary['seconds']:,.0f} s")
    for column in ("split", "loss", "error", "best error", "at step"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split, final in summary["final"].items():
        best = summary["best"][split]
        table.add_row(
            split,
            "-" if final["loss"] is None else f"{final['loss']:.4f}",
            f"{final['error']:.2%}",
            f"{best['error']:.2%}",
            f"{best['step']:,}",
        )
    return table
