"""The table of a sweep that is watched."""

import io

import pytest
from rich.console import Console

from resnet_jax.sweeps import display
from resnet_jax.sweeps.watch import Row
from tests.analysis.synthetic import write_run

NAMES = [
    f"{kind}-{depth}-learning_rate{rate}-seed{seed}"
    for kind in ("plain", "residual")
    for depth in (20, 110)
    for rate in (0.01, 0.1)
    for seed in range(6)
]
STATES = ["finished"] * 20 + ["training"] * 3 + ["failed", "diverged", "preempted"] + ["not started"] * 22
ROWS = [
    Row(name, state, 12_345, 64_000, 0.5, 0.25, 7777.0, 100_000.0) for name, state in zip(NAMES, STATES, strict=True)
]


def draw(rows, **limits):
    return display.table("runs/sweep", rows, 360_000.0, **limits)


def fitted(width, height, rows=ROWS):
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(display.fitting_table(rows, draw, console))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 24), (100, 15), (140, 100)])
def test_the_table_fits_the_terminal_and_shows_first_what_tells_most(width, height):
    lines = fitted(width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    shown = [line.split()[1] for line in lines if "/64,000" in line]
    first, room = ["training"] * 3 + ["failed", "diverged", "preempted"], len(shown)
    assert shown == (["finished"] * 20 + first + ["not"] * 22 if room == 48 else ["finished"] * (room - 6) + first)
    said = " ".join(" ".join(lines).split())
    assert "20 of 48 finished" in said
    counts = "3 training, 1 failed, 1 diverged, 1 preempted, 20 finished, 22 not started"
    assert f"{counts}; {48 - room} not shown" in said or (room == 48 and counts in said and "not shown" not in said)


def test_names_are_whole_where_they_have_room_and_else_keep_both_ends():
    assert "residual-20-learning_rate0.01-seed0" in "\n".join(fitted(140, 100))
    narrow = [line.split()[0] for line in fitted(80, 100) if "/64,000" in line]
    assert len(set(narrow)) == 48
    assert all("…" in name for name in narrow)
    assert display.shortened("abcdefghij", 10) == "abcdefghij"
    assert display.shortened("abcdefghij", 7) == "abc…hij"
    assert display.shortened("abcdefghij", 1) == "a…j"


def test_a_terminal_too_small_for_the_figures_and_a_sweep_without_runs_are_drawn():
    assert any("training" in line for line in fitted(30, 24))
    assert any("0 of 0 finished" in line for line in fitted(80, 24, rows=[]))


def test_unknown_figures_are_dashes():
    assert display.cells(Row("run", "not started")) == ["not started", *["-"] * 5]
    row = Row("run", "training", 1_000, 64_000, 0.5, 0.25, 1234.5, 3_723.4)
    assert display.cells(row) == ["training", "1,000/64,000", "50.00%", "25.00%", "1,234", "1:02:03"]


def test_without_a_terminal_changes_are_printed_once_a_minute_and_the_end_at_once(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: clock[0])

    def looks():
        for time, step in ((1000, 1), (1003, 1), (1006, 2), (1061, 3), (1064, 4), (1130, 4), (1200, 4)):
            clock[0] = time
            yield [Row("name", "training", step, 10)]
        yield [Row("name", "finished", 10, 10)]

    console = Console(file=io.StringIO())
    assert display.print_changes(looks(), draw, console) == [Row("name", "finished", 10, 10)]
    printed = [line.split()[2] for line in console.file.getvalue().splitlines() if line.startswith("name ")]
    assert printed == ["1/10", "3/10", "4/10", "10/10"]


@pytest.mark.parametrize("terminal", [False, True])
def test_watching_ends_when_no_run_is_left_to_do(tmp_path, monkeypatch, terminal):
    workdirs = [tmp_path / "there", tmp_path / "later"]
    write_run(workdirs[0])
    waits = []

    def finish_the_other(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            write_run(workdirs[1], status="diverged")

    monkeypatch.setattr(display.time, "sleep", finish_the_other)
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, height=30)
    rows = display.watch(tmp_path, workdirs, {}, console)
    assert [row.state for row in rows] == ["finished", "diverged"]
    assert waits == [display.SECONDS_BETWEEN_LOOKS] * 2
    said = console.file.getvalue()
    assert ("\x1b" in said) == terminal
    assert "1 finished, 1 not started" in said
    assert "1 diverged, 1 finished" in said
