"""Figures in the style of figure 6 of the paper."""

import itertools
import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from resnet_jax.analysis.censored import ABOVE, BELOW, EXACT
from resnet_jax.analysis.gap import Gap, gap
from resnet_jax.analysis.rates import LAWS, Growth
from resnet_jax.analysis.runs import Replicates, Run, group_depths, nets_of
from resnet_jax.report.display import divergence, error_of_guessing, in_words

# Okabe and Ito's colour-blind safe palette, without its yellow, which is too pale on paper.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
WIDTHS = {"train": 0.9, "test": 2.4}
SPLIT_NAMES = {"train": "thin: training error", "test": "bold: test error"}
# Splits of final errors, and what these are called.
FINAL = {"train_clean": "training error", "test": "test error"}
# Marks where a run diverged.
DIVERGED = "x"
# The width of a letter of a row's name.
INCHES = 0.075
# Characters that fit above a panel.
TITLE_WIDTH = 46
# Points of a line; more cannot be distinguished, and make a picture that no viewer opens.
MOST_POINTS = 1_000
# Panels of a figure in one row.
MOST_COLUMNS = 4
LINE_STYLES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")
LAW_STYLES = dict(zip(LAWS, LINE_STYLES, strict=False))
# Markers of steps to a threshold, and what they mean.
MARKERS = {EXACT: ("o", "a run"), ABOVE: ("^", "not reached: more"), BELOW: ("v", "at the first record: less")}
# Opacity of laws beyond the depths at which a run reaches the threshold.
FAINT = 0.3
# Per cent; below it a logarithmic axis is linear, so that an error of 0 can be shown.
LEAST_ON_LOG_SCALE = 0.1

# Lines of a panel by name: the value at which each ends, in per cent, and its colour.
Ends = dict[str, tuple[float, str]]


def colours(nets: Sequence[Replicates]) -> dict[int, str]:
    """Return a colour for each depth, the same in all figures of ``nets``."""
    return {depth: PALETTE[i % len(PALETTE)] for i, depth in enumerate(sorted({net.depth for net in nets}))}


def curve_of_seeds(net: Replicates, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return steps, and mean, minimum and maximum over seeds of the error on ``split``, each ``[records]``.

    Longer curves than a figure can show are thinned to ``MOST_POINTS`` records; the last one stays.
    Records without a finite loss, of diverged runs, are left out.
    """
    curves = [finite_curve(run, split) for run in net.runs]
    all_steps, errors = (np.concatenate(parts).astype(float) for parts in zip(*curves, strict=True))
    steps, places, counts = np.unique(all_steps, return_inverse=True, return_counts=True)
    means = np.bincount(places, errors) / counts
    lows, highs = np.full(len(steps), np.inf), np.full(len(steps), -np.inf)
    np.minimum.at(lows, places, errors)
    np.maximum.at(highs, places, errors)
    kept = thinned(len(steps), MOST_POINTS)
    return steps[kept], means[kept], lows[kept], highs[kept]


def finite_curve(run: Run, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps of ``run`` with a finite loss on ``split``, and the errors there, each ``[records]``."""
    lines = [line for line in run.metrics if line["split"] == split and line["loss"] is not None]
    return np.array([line["step"] for line in lines]), np.array([line["error"] for line in lines])


def thinned(records: int, most: int) -> np.ndarray:
    """Return at most ``most`` indices of ``records``, evenly spaced from the first to the last."""
    return np.unique(np.linspace(0, records - 1, min(records, most)).round().astype(int))


def last_finite(run: Run, axis: str = "step") -> tuple[float, float] | None:
    """Return the last recorded value of ``axis`` with a finite loss, and the error there, a fraction.

    Of a run whose loss was never finite it is the first record; None without records.
    """
    lines = [line for line in run.metrics if line["split"] == "train"]
    if not lines:
        return None
    last = next((line for line in reversed(lines) if line["loss"] is not None), lines[0])
    return last[axis], last["error"]


def draw_curves(nets: Sequence[Replicates], log_scale: bool = False) -> Figure:
    """Draw training and test error over steps, one panel per series, in the order of ``nets``.

    As in the paper, thin lines are the training error of mini-batches and bold lines the test error. Lines are means
    over seeds, bands their range. A cross marks where a run diverged.
    """
    all_series = group_depths(nets)
    columns = min(len(all_series), MOST_COLUMNS)
    rows = -(-len(all_series) // columns)
    figure = Figure(figsize=(max(4.8 * columns, 6.4), 3.8 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)[: len(all_series)]
    for panel in grid.flat[len(all_series) :]:
        panel.remove()
    ends: list[Ends] = []
    colour_of = colours(nets)
    for (series, members), panel in zip(all_series.items(), panels, strict=True):
        ends.append({})
        for net in members:
            colour = colour_of[net.depth]
            for split, width in WIDTHS.items():
                steps, means, lows, highs = curve_of_seeds(net, split)
                panel.plot(steps, 100 * means, color=colour, linewidth=width)
                if len(net.runs) > 1:
                    panel.fill_between(steps, 100 * lows, 100 * highs, color=colour, alpha=0.2, linewidth=0)
                if len(steps):
                    ends[-1][f"{net.depth} layers"] = (100 * means[-1], colour)
            for step, error in filter(None, (last_finite(run) for run in net.runs if run.diverged)):
                panel.plot(step, 100 * error, DIVERGED, color=colour, markersize=7, markeredgewidth=1.8)
        panel.set_title(wrapped(in_words(nets_of(series))), fontsize="medium")
        panel.xaxis.set_tick_params(labelbottom=True)  # Also where no panel is below.
        panel.set_xlabel("step (mini-batches)")
        panel.set_xlim(0, max(run.config["steps"] for net in nets for run in net.runs))
        panel.xaxis.set_major_locator(MaxNLocator(nbins=5))  # Five-digit labels do not touch.
    style_axes(panels, log_scale, columns)
    label_ends(panels, ends)
    handles: list[Artist] = [
        Line2D([], [], color="0.3", linewidth=WIDTHS[split], label=SPLIT_NAMES[split]) for split in WIDTHS
    ]
    if any(len(net.runs) > 1 for net in nets):
        handles.append(Patch(color="0.3", alpha=0.2, linewidth=0, label="band: range over seeds"))
    if any(run.diverged for net in nets for run in net.runs):
        handles.append(Line2D([], [], color="0.3", linestyle="", marker=DIVERGED, label="diverged"))
    handles += draw_guessing(panels, error_of_guessing(nets))
    figure.legend(handles=handles, loc="outside lower center", ncols=max(2, 2 * columns), fontsize="small")
    return figure


def wrapped(title: str) -> str:
    """Return ``title`` in lines of the width of a panel, broken where a part in it ends."""
    space = "\N{NO-BREAK SPACE}"
    parts = ", ".join(part.replace(" ", space) for part in title.split(", "))
    return textwrap.fill(parts, TITLE_WIDTH, break_long_words=False, break_on_hyphens=False).replace(space, " ")


def has_depths(nets: Sequence[Replicates]) -> bool:
    """Return whether errors of ``nets`` over depth are a curve: it needs three with finished runs."""
    return len({net.depth for net in nets if net.finished}) > 2


def draw_depths(nets: Sequence[Replicates], log_scale: bool = False) -> Figure:
    """Draw the final error of finished runs over depth: a dot for each seed, a line through the means of a series."""
    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    panels = list(figure.subplots(1, 2, sharey=True))
    ends: list[Ends] = []
    colour_of = colours(nets)
    for (split, title), panel in zip(FINAL.items(), panels, strict=True):
        ends.append({})
        for style, (series, members) in zip(itertools.cycle(LINE_STYLES), group_depths(nets).items(), strict=False):
            points = [(net, final_errors(net, split)) for net in members if net.finished]
            means = [errors.mean() for _, errors in points]
            panel.plot([net.depth for net, _ in points], means, color="0.3", linestyle=style, linewidth=1.2, zorder=1)
            for net, errors in points:
                colour = colour_of[net.depth]
                panel.plot([net.depth] * len(errors), errors, "o", color=colour, alpha=0.6, markersize=5)
            if means:
                ends[-1][in_words(series)] = (means[-1], "0.2")
        panel.set_title(f"final {title}")
        panel.set_xlabel("depth (weighted layers)")
        panel.set_xscale("log")
        depths = sorted({net.depth for net in nets})
        panel.set_xticks(depths, map(str, depths))
        panel.minorticks_off()
    style_axes(panels, log_scale)
    label_ends(panels, ends)
    handles = [
        Line2D([], [], color="0.3", linestyle="", marker="o", markersize=5, label="a seed"),
        Line2D([], [], color="0.3", linewidth=1.2, label="mean"),
        *draw_guessing(panels, error_of_guessing(nets)),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize="small")
    return figure


def draw_nets(
    nets: Sequence[Replicates], log_scale: bool = False, compared: Sequence[Replicates] | None = None
) -> Figure:
    """Draw the final errors of ``nets``, one row a net: a dot per seed, a bar at the mean.

    A third panel has the gap in training error between each deeper net and the shallowest one of its series, with the
    interval of the verdict. The row of a net whose runs all diverged has the steps in words; nets without a finished or
    diverged run are left out.

    Args:
      nets: those to draw, from top to bottom.
      log_scale: of the error axes.
      compared: the nets among which are the shallowest of each series; None: ``nets``.
    """
    nets = [net for net in nets if net.finished or divergence(net)]
    gaps = gaps_to_shallowest(nets, nets if compared is None else compared)
    columns = 3 if gaps else 2
    labels = [row_label(net) for net in nets]
    letters = max((len(line) for label in labels for line in label.split("\n")), default=0)
    lines = sum(1 + label.count("\n") for label in labels)
    size = (3.2 * columns + INCHES * letters, max(2.0, 1.6 + 0.26 * lines))
    figure = Figure(figsize=size, layout="constrained")
    panels = list(figure.subplots(1, columns, sharey=True))
    errors, rest = panels[:2], panels[2:]
    errors[1].sharex(errors[0])
    colour_of = colours(nets)
    for (split, title), panel in zip(FINAL.items(), errors, strict=True):
        for row, net in enumerate(nets):
            colour = colour_of[net.depth]
            if net.finished:
                found = final_errors(net, split)
                panel.plot(found, [row] * len(found), "o", color=colour, alpha=0.6, markersize=5)
                panel.plot(found.mean(), row, "|", color=colour, markersize=14, markeredgewidth=2)
            else:
                place = {"xycoords": panel.get_yaxis_transform(), "verticalalignment": "center"}
                panel.annotate(divergence(net), (0.03, row), color=colour, fontsize="small", **place)
        panel.set_title(f"final {title}")
        panel.set_xlabel("error (%)")
        if log_scale:
            panel.set_xscale("symlog", linthresh=LEAST_ON_LOG_SCALE)
    for panel in rest:
        draw_gaps(panel, gaps, nets, colour_of)
    for panel in panels:
        panel.grid(color="0.9")
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    # Keeps dots at 0 whole; only now, because it fixes the limits that the panels share.
    errors[0].set_xlim(left=-0.02 * (1 if log_scale else errors[0].get_xlim()[1]))
    errors[0].set_yticks(range(len(nets)), labels, fontsize="small")
    errors[0].set_ylim(max(1, len(nets)) - 0.5, -0.5)  # Limits that differ, also before a run has finished.
    handles = [
        Line2D([], [], color="0.3", linestyle="", marker="o", alpha=0.6, markersize=5, label="a seed"),
        Line2D([], [], color="0.3", linestyle="", marker="|", markersize=12, markeredgewidth=2, label="mean"),
        *gap_handles(gaps.values()),
        *draw_guessing(errors, error_of_guessing(nets), across=True),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize="small")
    return figure


def row_label(net: Replicates) -> str:
    """Return the label of the row of ``net``; a second line counts diverged runs next to finished ones."""
    some = divergence(net) if net.finished else ""
    return f"{in_words(net.label)}\n({some})" if some else in_words(net.label)


def final_errors(net: Replicates, split: str) -> np.ndarray:
    """Return the errors on ``split`` after the last step, in per cent, of the finished runs of ``net``."""
    return 100 * np.array([run.final(split) for run in net.finished])


def gaps_to_shallowest(nets: Sequence[Replicates], compared: Sequence[Replicates]) -> dict[int, Gap]:
    """Return the gap in training error to the shallowest net of the series, by the place of the net in ``nets``.

    The shallowest net is found among ``compared``; this net and nets without a complete run have no gap.
    """
    series = group_depths([net for net in compared if net.complete])
    found = {}
    for row, net in enumerate(nets):
        shallowest = series[net.series][0] if net.complete else net
        if net.depth > shallowest.depth:
            errors = [np.array([run.final("train_clean") for run in each.complete]) for each in (net, shallowest)]
            found[row] = gap(*errors)
    return found


def draw_gaps(panel: Axes, gaps: dict[int, Gap], nets: Sequence[Replicates], colour_of: dict[int, str]) -> None:
    """Draw ``gaps``, by row, with their intervals; without an interval the marker is hollow."""
    panel.axvline(0, color="0.3", linewidth=1, zorder=1)
    for row, each in gaps.items():
        colour, points = colour_of[nets[row].depth], 100 * each.difference
        if each.interval is None:
            panel.plot(points, row, "s", color=colour, markerfacecolor="none", markersize=5)
        else:
            low, high = (100 * bound for bound in each.interval)
            panel.plot([low, high], [row, row], "-", color=colour, linewidth=1.6)
            panel.plot(points, row, "s", color=colour, markersize=5)
    panel.set_title("gap in training error\nto the shallowest net")
    panel.set_xlabel("percentage points")


def gap_handles(gaps: Iterable[Gap]) -> list[Line2D]:
    """Return the entries of ``gaps`` in a legend."""
    handles, known = [], {each.interval is not None for each in gaps}
    if True in known:
        handles.append(Line2D([], [], color="0.3", marker="s", markersize=5, label="gap, 95 % interval"))
    if False in known:
        label = "gap without interval: too few seeds, or no scatter"
        handles.append(
            Line2D([], [], color="0.3", linestyle="", marker="s", markersize=5, markerfacecolor="none", label=label)
        )
    return handles


def draw_guessing(panels: Sequence[Axes], error: float | None, across: bool = False) -> list[Line2D]:
    """Draw the error of guessing, a fraction, where the error axis of ``panels`` reaches it; return legend entries.

    Args:
      panels: fully drawn, with one error axis.
      error: None if it is not known.
      across: whether the error axis is horizontal.
    """
    if error is None or 100 * error > max(panels[0].get_xlim() if across else panels[0].get_ylim()):
        return []
    for panel in panels:
        draw = panel.axvline if across else panel.axhline
        draw(100 * error, color="0.3", linestyle=":", linewidth=1, zorder=1)
    return [Line2D([], [], color="0.3", linestyle=":", linewidth=1, label=guessing_label(error))]


def guessing_label(error: float) -> str:
    """Return the label of a line at ``error``, a fraction, of guessing."""
    return f"guessing: {100 * error:g} %"


def draw_rates(growths: Sequence[Growth]) -> Figure:
    """Draw the steps to each threshold over depth, one panel per threshold.

    If learning rates differ within a series, a second row of panels shows steps times learning rate.
    """
    thresholds = sorted({growth.threshold for growth in growths}, reverse=True)
    colour_of = dict(zip(sorted({growth.series for growth in growths}), itertools.cycle(PALETTE), strict=False))
    kinds = ["steps"]
    if any(len({reach.rate for reach in growth.reaches}) > 1 for growth in growths):
        kinds.append("steps times learning rate")
    figure = Figure(figsize=(1.9 + 4 * len(thresholds), 0.4 + 3.4 * len(kinds)), layout="constrained")
    grid = figure.subplots(len(kinds), len(thresholds), sharex=True, sharey="row", squeeze=False)
    for is_progress, (kind, panels) in enumerate(zip(kinds, grid, strict=True)):
        for growth in growths:
            panel = panels[thresholds.index(growth.threshold)]
            draw_growth(panel, growth, colour_of[growth.series], bool(is_progress))
        for threshold, panel in zip(thresholds, panels, strict=True):
            panel.set_title(f"{kind} to a training loss of {threshold:g}", fontsize="medium")
            panel.grid(color="0.9")
            panel.set_axisbelow(True)
            panel.spines[["top", "right"]].set_visible(False)
        panels[0].set_yscale("log")
        panels[0].set_ylabel("steps (mini-batches)" if kind == "steps" else kind)
        # Room for the runs, which laws that are drawn beyond them would take.
        values = [value for growth in growths for value in drawn_values(growth, bool(is_progress))]
        if values:
            panels[0].set_ylim(min(values) / 1.5, max(values) * 1.5)
    for panel in grid[-1]:
        panel.set_xlabel("depth (weighted layers)")
    handles = [
        Line2D([], [], color=colour, linewidth=3, label=in_words(series)) for series, colour in colour_of.items()
    ]
    if any(growth.steps for growth in growths):
        handles += [Line2D([], [], color="0.3", linestyle=style, label=name) for name, style in LAW_STYLES.items()]
        handles.append(Line2D([], [], color="0.3", alpha=FAINT, label="beyond the depths measured"))
    for marker, meaning in MARKERS.values():
        face = "0.3" if marker == "o" else "none"
        handles.append(Line2D([], [], color="0.3", linestyle="", marker=marker, markerfacecolor=face, label=meaning))
    figure.legend(handles=handles, loc="outside right upper", fontsize="small")
    return figure


def drawn_values(growth: Growth, is_progress: bool) -> list[float]:
    """Return the steps of each run of ``growth``, or its steps times its learning rate."""
    return [reach.steps * (reach.rate if is_progress else 1.0) for reach in growth.reaches]


def draw_growth(panel: Axes, growth: Growth, colour: str, is_progress: bool) -> None:
    """Draw the steps of ``growth`` over depth, or steps times learning rate: a marker per run and a line per law.

    Open triangles are censored runs, whose true steps are more (up) or less (down). Lines are faint beyond the depths
    at which a run reaches the threshold.
    """
    for reach, value in zip(growth.reaches, drawn_values(growth, is_progress), strict=True):
        face = colour if reach.side == EXACT else "none"
        marker = MARKERS[reach.side][0]
        panel.plot(reach.depth, value, marker, color=colour, markerfacecolor=face, markersize=5, alpha=0.8)
    if growth.steps is None:
        return
    # If all runs have one rate, laws of steps times rate are the laws of the steps times that rate.
    laws = growth.progress if is_progress and growth.progress else growth.steps
    factor = growth.reaches[0].rate if is_progress and not growth.progress else 1.0
    depths = [reach.depth for reach in growth.reaches]
    least, most = laws.measured
    for ends, alpha in (((min(depths), least), FAINT), (laws.measured, 1.0), ((most, max(depths)), FAINT)):
        along = np.linspace(*ends, 100)
        for name, law in laws.fitted.items():
            steps = factor * np.exp(law.logarithms(along))
            panel.plot(along, steps, color=colour, linewidth=1.2, linestyle=LAW_STYLES[name], alpha=alpha)


def zero_on_log_scale(positive: np.ndarray) -> float:
    """Return the place of 0 on a logarithmic axis: the power of ten below half of the least ``positive`` value."""
    return 10.0 ** (math.ceil(math.log10(positive.min() / 2)) - 1) if len(positive) else LEAST_ON_LOG_SCALE


def decades_above(zero: float, top: float) -> list[float]:
    """Return the powers of ten above ``zero``, itself one, up to ``top``."""
    return [zero * 10.0**place for place in range(1, math.floor(math.log10(top / zero) + 1e-9) + 1)]


def style_axes(panels: Sequence[Axes], log_scale: bool, columns: int | None = None) -> None:
    """Give ``panels``, which share their error axis and are fully drawn, a grid and an axis that starts at 0 %.

    Args:
      panels: row by row.
      log_scale: of the error axis.
      columns: panels in a row; None for all.
    """
    for panel in panels[:: columns or len(panels)]:
        panel.set_ylabel("error (%)")
    if log_scale:
        panels[0].set_yscale("symlog", linthresh=LEAST_ON_LOG_SCALE)
        ticks = (0, 0.1, 1, 10, 100)
        panels[0].set_yticks(ticks, map(str, ticks))
        panels[0].set_ylim(-0.02, 100)
    else:
        _, top = panels[0].get_ylim()
        panels[0].set_ylim(-0.02 * top, top)  # Keeps curves at 0 clear of the axis.
    for panel in panels:
        panel.grid(color="0.9")
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)


def label_ends(panels: Sequence[Axes], ends: Sequence[Ends]) -> None:
    """Label the lines of each of ``panels`` at their ends, with labels moved apart where they would overlap."""
    least_distance = 0.055  # One line of text, as a fraction of the panel's height.
    for panel, lines in zip(panels, ends, strict=True):
        to_panel = panel.transData + panel.transAxes.inverted()
        heights = {name: to_panel.transform((panel.get_xlim()[1], end))[1] for name, (end, _) in lines.items()}
        height = -1.0
        for name in sorted(heights, key=lambda name: heights[name]):
            height = max(heights[name], height + least_distance)
            panel.annotate(
                name, (1.02, height), xycoords="axes fraction", color=lines[name][1], fontsize="small", va="center"
            )
