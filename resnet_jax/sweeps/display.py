"""The table of a sweep that is watched: drawn in place on a terminal, printed now and then elsewhere."""

import collections
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table

from resnet_jax.sweeps.watch import TRAINING, UNREADABLE, Row, all_ended, row, seconds_left

SECONDS_BETWEEN_LOOKS = 3.0
# Where there is no terminal, so that each table stays.
SECONDS_BETWEEN_TABLES = 60.0
# Columns of a table where there is no terminal; no name is broken there.
WIDTH = 200
# Which runs are shown first where not all have room.
SHOWN_FIRST = (TRAINING, "failed", "diverged", UNREADABLE, "preempted", "unfinished", "finished", "not started")


def watch(
    folder: pathlib.Path, workdirs: Sequence[pathlib.Path], multiply_adds: Mapping[str, int], console: Console
) -> list[Row]:
    """Show how far the runs in ``workdirs`` are until none is left to do; return how they ended.

    On a terminal the table is drawn in place, with as many runs as have room, and at the end with all. Elsewhere it is
    printed at once, then at most once a minute when something has changed, and at the end.

    Args:
      folder: folder of the sweep, for the title.
      workdirs: run directories; where one does not exist, its run counts as not started.
      multiply_adds: multiply-adds of all training steps of each run, by name; empty if they are not known.
      console: where to draw.
    """

    def draw(rows: Sequence[Row], **limits: int) -> Table:
        title = f"{folder} at {time.strftime('%H:%M:%S')}"
        return table(title, rows, seconds_left(rows, multiply_adds), **limits)

    in_place = console.is_terminal and not console.is_dumb_terminal
    return (draw_in_place if in_place else print_changes)(looks(workdirs), draw, console)


def looks(workdirs: Sequence[pathlib.Path]) -> Iterator[list[Row]]:
    """Yield how far the runs in ``workdirs`` are, again and again until none is left to do."""
    while True:
        rows = [row(workdir, time.time()) for workdir in workdirs]
        yield rows
        if all_ended(rows):
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)


def draw_in_place(looks: Iterator[list[Row]], draw: Callable[..., Table], console: Console) -> list[Row]:
    """Draw each of ``looks`` over the one before, and the last, also after Ctrl-C, with all runs; return the last."""
    rows: list[Row] = []
    try:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            for rows in looks:
                live.update(fitting_table(rows, draw, console), refresh=True)
    finally:
        console.print(draw(rows))
    return rows


def print_changes(looks: Iterator[list[Row]], draw: Callable[..., Table], console: Console) -> list[Row]:
    """Print the first and the last of ``looks``, and those between that differ, one a minute; return the last."""
    console.width = WIDTH
    printed: list[Row] = []
    next_time = 0.0
    for rows in looks:
        over = all_ended(rows)
        if over or (rows != printed and time.monotonic() >= next_time):
            console.print(draw(rows))
            printed, next_time = rows, time.monotonic() + SECONDS_BETWEEN_TABLES
    return rows


def fitting_table(rows: Sequence[Row], draw: Callable[..., Table], console: Console) -> Table:
    """Return the table of as many of ``rows`` as ``console`` has lines, with names as long as it has columns."""
    unlimited = console.options.update(max_width=10_000)
    excess = max(0, Measurement.get(console, unlimited, draw(rows)).maximum - console.width)
    name_width = max(1, max((len(each.name) for each in rows), default=1) - excess)
    around = len(console.render_lines(draw(rows, count=0, name_width=name_width)))
    return draw(rows, count=max(0, console.height - around), name_width=name_width)


def table(
    title: str, rows: Sequence[Row], left: float | None, count: int | None = None, name_width: int | None = None
) -> Table:
    """Return ``rows`` as a table, with totals.

    Args:
      title: of the table.
      rows: of all runs, in the order of the table.
      left: seconds until all runs are over, None if it is not known.
      count: of rows to show, the first by ``SHOWN_FIRST``; None shows all.
      name_width: of names to show, without their middles; None shows all of them.
    """
    rank = {state: index for index, state in enumerate(SHOWN_FIRST)}
    ranked = sorted(rows, key=lambda each: rank.get(each.state, len(rank)))
    shown = {each.name for each in ranked[:count]}
    states = collections.Counter(each.state for each in ranked)
    says = ", ".join(f"{number} {state}" for state, number in states.items())
    if len(shown) < len(rows):
        says += f"; {len(rows) - len(shown)} not shown"
    pace = sum(each.images_per_second or 0.0 for each in rows)
    drawn = Table(title=title, caption=says, box=box.SIMPLE_HEAD, show_footer=True, show_edge=False, padding=0)
    drawn.add_column("run", f"{states['finished']} of {len(rows)} finished", overflow="fold")
    drawn.add_column("state", no_wrap=True)
    drawn.add_column("step", no_wrap=True, justify="right")
    drawn.add_column("training\nerror", no_wrap=True, justify="right")
    drawn.add_column("test\nerror", no_wrap=True, justify="right")
    drawn.add_column("images\n/s", f"{pace:,.0f}" if pace else "-", no_wrap=True, justify="right")
    drawn.add_column("time\nleft", "-" if left is None else duration(left), no_wrap=True, justify="right")
    for each in rows:
        if each.name in shown:
            drawn.add_row(shortened(each.name, name_width or len(each.name)), *cells(each))
    return drawn


def shortened(name: str, width: int) -> str:
    """Return ``name``, if it is longer than ``width`` without its middle, because seeds are at its end."""
    if len(name) <= width:
        return name
    end = max(1, (width - 1) // 2)
    return f"{name[: max(1, width - 1 - end)]}…{name[-end:]}"


def cells(row: Row) -> list[str]:
    """Return ``row`` as the cells of the table after the name."""
    return [
        row.state,
        "-" if row.steps is None else f"{row.step:,}/{row.steps:,}",
        "-" if row.training_error is None else f"{row.training_error:.2%}",
        "-" if row.test_error is None else f"{row.test_error:.2%}",
        "-" if row.images_per_second is None else f"{row.images_per_second:,.0f}",
        "-" if row.seconds_left is None else duration(row.seconds_left),
    ]


def duration(seconds: float) -> str:
    """Return ``seconds`` as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
