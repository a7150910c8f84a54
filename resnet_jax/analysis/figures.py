"""Figures in the style of figure 6 of the paper."""

import itertools
import textwrap
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from resnet_jax.analysis.censored import ABOVE, BELOW, EXACT
from resnet_jax.analysis.rates import LAWS, Growth
from resnet_jax.analysis.runs import Replicates, group_depths, nets_of

# Okabe and Ito's colour-blind safe palette, without its yellow, which is too pale on paper.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
WIDTHS = {"train": 0.9, "test": 2.4}
SPLIT_NAMES = {"train": "thin: training error", "test": "bold: test error"}
# Characters that fit above a panel.
TITLE_WIDTH = 36
# Points of a line; more cannot be distinguished, and make a picture that no viewer opens.
MOST_POINTS = 1_000
# Panels of a figure beside each other.
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


def mean_curve(net: Replicates, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return steps, and mean and standard deviation over seeds of the error on ``split``, each ``[records]``.

    Longer curves than a figure can show are thinned to ``MOST_POINTS`` records, of which the last is the curve's.
    """
    curves = [run.curve(split) for run in net.runs]
    all_steps, errors = (np.concatenate(parts).astype(float) for parts in zip(*curves, strict=True))
    steps, places, counts = np.unique(all_steps, return_inverse=True, return_counts=True)
    means = np.bincount(places, errors) / counts
    squares = np.bincount(places, (errors - means[places]) ** 2)
    deviations = np.sqrt(squares / np.maximum(counts - 1, 1))
    kept = thinned(len(steps), MOST_POINTS)
    return steps[kept], means[kept], deviations[kept]


def thinned(records: int, most: int) -> np.ndarray:
    """Return at most ``most`` indices of ``records``, evenly spaced from the first to the last."""
    return np.unique(np.linspace(0, records - 1, min(records, most)).round().astype(int))


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation, 0 for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def draw_curves(nets: Sequence[Replicates], log_scale: bool = False) -> Figure:
    """Draw training and test error over steps, one panel per series.

    As in the paper, thin lines are the training error of mini-batches and bold lines the test error. Lines are means
    over seeds, bands their standard deviation.
    """
    all_series = group_depths(nets)
    columns = min(len(all_series), MOST_COLUMNS)
    rows = -(-len(all_series) // columns)
    figure = Figure(figsize=(4.8 * columns, 3.8 * rows), layout="constrained")
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
                steps, means, deviations = mean_curve(net, split)
                panel.plot(steps, 100 * means, color=colour, linewidth=width)
                if len(net.runs) > 1:
                    low, high = 100 * (means - deviations), 100 * (means + deviations)
                    panel.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
                if len(steps):
                    ends[-1][f"{net.depth} layers"] = (100 * means[-1], colour)
        panel.set_title(textwrap.fill(nets_of(series), TITLE_WIDTH))
        panel.xaxis.set_tick_params(labelbottom=True)  # Also where no panel is below.
        panel.set_xlabel("step (mini-batches)")
        panel.set_xlim(0, max(run.config["steps"] for net in nets for run in net.runs))
        panel.xaxis.set_major_locator(MaxNLocator(nbins=5))  # Five-digit labels do not touch.
    style_axes(panels, log_scale, columns)
    label_ends(panels, ends)
    handles = [Line2D([], [], color="0.3", linewidth=WIDTHS[split], label=SPLIT_NAMES[split]) for split in WIDTHS]
    panels[-1].legend(handles=handles, loc="upper right", fontsize="small", framealpha=0.9)
    return figure


def draw_depths(nets: Sequence[Replicates], log_scale: bool = False) -> Figure:
    """Draw the final error of finished runs over depth, one line per series and one dot per seed."""
    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    ends: list[Ends] = []
    colour_of = colours(nets)
    for split, title, panel in zip(("train_clean", "test"), ("training error", "test error"), panels, strict=True):
        ends.append({})
        for style, (series, members) in zip(itertools.cycle(LINE_STYLES), group_depths(nets).items(), strict=False):
            points = [(net, 100 * np.array([run.final(split) for run in net.finished])) for net in members]
            points = [(net, errors) for net, errors in points if len(errors)]
            means = [errors.mean() for _, errors in points]
            panel.plot([net.depth for net, _ in points], means, color="0.3", linestyle=style, linewidth=1.2, zorder=1)
            for net, errors in points:
                colour = colour_of[net.depth]
                panel.errorbar(
                    net.depth, errors.mean(), deviation(errors.tolist()), color=colour, marker="o", capsize=3
                )
                panel.plot([net.depth] * len(errors), errors, ".", color=colour, alpha=0.5)
            if means:
                ends[-1][series] = (means[-1], "0.2")
        panel.set_title(f"final {title}")
        panel.set_xlabel("depth (weighted layers)")
        panel.set_xscale("log")
        depths = sorted({net.depth for net in nets})
        panel.set_xticks(depths, map(str, depths))
        panel.minorticks_off()
    style_axes(panels, log_scale)
    label_ends(panels, ends)
    return figure


def draw_nets(nets: Sequence[Replicates], log_scale: bool = False) -> Figure:
    """Draw the final errors of the nets with finished runs, one row a net: a dot per seed, a bar at the mean."""
    nets = [net for net in nets if net.finished]
    figure = Figure(figsize=(9.6, max(2.0, 1.2 + 0.28 * len(nets))), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    colour_of = colours(nets)
    for split, title, panel in zip(("train_clean", "test"), ("training error", "test error"), panels, strict=True):
        for row, net in enumerate(nets):
            errors = 100 * np.array([run.final(split) for run in net.finished])
            colour = colour_of[net.depth]
            panel.plot(errors, [row] * len(errors), "o", color=colour, alpha=0.6, markersize=5)
            panel.plot(errors.mean(), row, "|", color=colour, markersize=14, markeredgewidth=2)
        panel.set_title(f"final {title}")
        panel.set_xlabel("error (%)")
        if log_scale:
            panel.set_xscale("symlog", linthresh=LEAST_ON_LOG_SCALE)
        panel.grid(color="0.9")
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    # Keeps dots at 0 whole; only now, because it fixes the limits that the panels share.
    panels[0].set_xlim(left=-0.02 * (1 if log_scale else panels[0].get_xlim()[1]))
    panels[0].set_yticks(range(len(nets)), [net.label for net in nets])
    panels[0].set_ylim(max(1, len(nets)) - 0.5, -0.5)  # Limits that differ, also before a run has finished.
    return figure


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
    handles = [Line2D([], [], color=colour, linewidth=3, label=series) for series, colour in colour_of.items()]
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
