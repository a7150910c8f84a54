"""The panels of ``resnet_jax.analysis.why`` as pictures and as interactive plots."""

import html
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib.colors
import numpy as np
import plotly.io
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from resnet_jax.analysis.figures import PALETTE
from resnet_jax.analysis.panels import Line, Panel, Plot

# Of a letter, for the width that names take.
INCHES = 0.08


def colour_map(panels: Sequence[Panel]) -> dict[int, str]:
    """Return a colour for each depth, the same in all ``panels``."""
    lines = [line for panel in panels for plot in panel.plots for line in plot.lines]
    depths = sorted({line.depth for line in lines if line.depth is not None})
    return {depth: PALETTE[place % len(PALETTE)] for place, depth in enumerate(depths)}


def colour_of(line: Line, number: int, colours: dict[int, str]) -> str:
    """Return the colour of ``line``, which is the one of ``number`` in its plot."""
    return PALETTE[number % len(PALETTE)] if line.depth is None else colours[line.depth]


def middle_and_range(line: Line) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return median, minimum and maximum over seeds at each point of ``line``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Of points that no seed has.
        return np.nanmedian(line.values, 0), np.nanmin(line.values, 0), np.nanmax(line.values, 0)


def draw(panel: Panel, colours: dict[int, str]) -> Figure:
    """Draw the plots of ``panel`` beside each other: medians over seeds as lines, ranges as bands."""
    labels = [line.label for line in panel.plots[0].lines]
    names = [name for plot in panel.plots for name in plot.ticks]
    width = 4.3 * len(panel.plots) + sum(max(map(len, texts), default=0) * INCHES for texts in (labels, names))
    figure = Figure(figsize=(0.9 + width, max(3.9, 1.2 + 0.34 * len(names))), layout="constrained")
    axes = figure.subplots(1, len(panel.plots), squeeze=False)[0]
    for axis, plot in zip(axes, panel.plots, strict=True):
        if plot.ticks:
            draw_bars(axis, plot, colours)
        else:
            draw_lines(axis, plot, colours)
        axis.set_title(plot.title)
        axis.grid(color="0.9")
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize="small", frameon=False)
    # At the left, where the legend is not.
    figure.suptitle(panel.title, x=0.01, horizontalalignment="left", fontsize="medium")
    return figure


def draw_lines(axis: Axes, plot: Plot, colours: dict[int, str]) -> None:
    """Draw the lines of ``plot`` on ``axis``."""
    for number, line in enumerate(plot.lines):
        colour = colour_of(line, number, colours)
        middle, low, high = middle_and_range(line)
        axis.plot(line.x, middle, "--" if line.is_dashed else "-", color=colour, linewidth=1.6, label=line.label)
        if len(line.values) > 1:
            axis.fill_between(line.x, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.plot(line.x[list(line.marks)], middle[list(line.marks)], "o", color=colour, markersize=4)
    if plot.is_log:
        axis.set_yscale("log")
    axis.set_xlabel(plot.x)
    axis.set_ylabel(plot.y)


def draw_bars(axis: Axes, plot: Plot, colours: dict[int, str]) -> None:
    """Draw the lines of ``plot`` as horizontal bars on ``axis``, the first place at the top."""
    height = 0.8 / len(plot.lines)
    for number, line in enumerate(plot.lines):
        places = line.x + (number - (len(plot.lines) - 1) / 2) * height
        middle, _, _ = middle_and_range(line)
        axis.barh(places, middle, height, color=colour_of(line, number, colours), label=line.label)
    axis.set_yticks(range(len(plot.ticks)), plot.ticks)
    axis.invert_yaxis()
    axis.set_xlabel(plot.y)


def interactive(panel: Panel, colours: dict[int, str], with_library: bool) -> str:
    """Return ``panel`` as HTML with a plot that answers the pointer.

    Args:
      panel: to be shown.
      colours: the result of ``colour_map``.
      with_library: whether the page does not have Plotly's library yet.
    """
    titles = [plot.title for plot in panel.plots]
    layout = make_subplots(1, len(panel.plots), subplot_titles=titles).layout
    layout.update(template="simple_white", height=380, margin={"l": 60, "r": 10, "t": 40, "b": 50}, barmode="group")
    traces: list[dict[str, Any]] = []
    for number, plot in enumerate(panel.plots, start=1):
        suffix = "" if number == 1 else str(number)
        along, across = ("yaxis", "xaxis") if plot.ticks else ("xaxis", "yaxis")
        layout[f"{along}{suffix}"].update(title={"text": plot.x}, autorange="reversed" if plot.ticks else True)
        kind = "log" if plot.is_log else "linear"
        layout[f"{across}{suffix}"].update(title={"text": plot.y}, type=kind, automargin=True)
        for place, line in enumerate(plot.lines):
            colour = colour_of(line, place, colours)
            traces += traces_of(line, plot, colour, suffix, is_first=number == 1)
    figure = {"data": traces, "layout": layout.to_plotly_json()}
    return plotly.io.to_html(
        figure, {"responsive": True}, full_html=False, include_plotlyjs=with_library, validate=False
    )


def traces_of(line: Line, plot: Plot, colour: str, suffix: str, is_first: bool) -> list[dict[str, Any]]:
    """Return ``line`` as traces: its median, and its range where there is one."""
    middle, low, high = middle_and_range(line)
    name = html.escape(line.label, quote=False)  # Plotly takes some HTML in labels.
    common = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}", "legendgroup": line.label, "name": name}
    if plot.ticks:
        ticks = [html.escape(each, quote=False) for each in plot.ticks]
        bars = {"type": "bar", "orientation": "h", "x": middle, "y": ticks, "marker": {"color": colour}}
        return [{**common, **bars, "showlegend": is_first}]
    style = {"color": colour, "dash": "dash" if line.is_dashed else "solid", "width": 2}
    drawn = {"type": "scatter", "mode": "lines", "x": line.x, "y": middle, "line": style, "showlegend": is_first}
    traces = [{**common, **drawn, "hovertemplate": f"{html.escape(line.label)}<br>%{{x}}: %{{y:.4g}}<extra></extra>"}]
    if line.marks:
        at = list(line.marks)
        dots = {"type": "scatter", "mode": "markers", "x": line.x[at], "y": middle[at], "marker": {"color": colour}}
        traces.append({**common, **dots, "hoverinfo": "skip", "showlegend": False})
    if len(line.values) > 1:
        red, green, blue = (round(255 * part) for part in matplotlib.colors.to_rgb(colour))
        there = np.isfinite(middle)
        outline = np.concatenate([line.x[there], line.x[there][::-1]]), np.concatenate([low[there], high[there][::-1]])
        band = {"type": "scatter", "x": outline[0], "y": outline[1], "fill": "toself", "hoverinfo": "skip"}
        band |= {"fillcolor": f"rgba({red},{green},{blue},0.2)", "line": {"width": 0}, "mode": "lines"}
        traces.append({**common, **band, "showlegend": False})
    return traces
