"""The panels of ``resnet_jax.report.why`` as pictures and as interactive plots."""

import html
import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib.colors
import numpy as np
import plotly.io
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation
from plotly.subplots import make_subplots

from resnet_jax.report.display import in_words
from resnet_jax.report.figures import PALETTE, decades_above, guessing_label, zero_on_log_scale
from resnet_jax.report.panels import Line, Panel, Plot

# The width of a letter of a name.
INCHES = 0.08
# Room at the ends of an axis, as a share of its length.
MARGIN = 0.04


class Scale(NamedTuple):
    """The axis of a quantity, the same in all plots that show it.

    Attributes:
      low: its lower end.
      high: its upper end.
      zero: where a logarithmic axis has values that are not positive; None if there are none, or the axis is linear.
    """

    low: float
    high: float
    zero: float | None


class Style(NamedTuple):
    """What all plots of a page share.

    Attributes:
      colours: a colour for each depth.
      scales: by the label of a quantity and whether its axis is logarithmic.
    """

    colours: dict[int, str]
    scales: dict[tuple[str, bool], Scale]

    def scale(self, plot: Plot) -> Scale:
        """Return the axis of the quantity of ``plot``."""
        return self.scales[plot.y, plot.is_log]


def style_of(panels: Sequence[Panel]) -> Style:
    """Return the colours and axes that all ``panels`` share."""
    plots = [plot for panel in panels for plot in panel.plots]
    depths = sorted({line.depth for plot in plots for line in plot.lines if line.depth is not None})
    values: dict[tuple[str, bool], list[np.ndarray]] = {}
    for plot in plots:
        values.setdefault((plot.y, plot.is_log), []).extend(line.values.ravel() for line in plot.lines)
    scales = {key: scale_of(np.concatenate(parts), is_log=key[1]) for key, parts in values.items()}
    return Style({depth: PALETTE[place % len(PALETTE)] for place, depth in enumerate(depths)}, scales)


def scale_of(values: np.ndarray, is_log: bool) -> Scale:
    """Return the axis on which all finite ``values`` have a place."""
    there, zero = values[np.isfinite(values)], None
    if is_log:
        positive = there[there > 0]
        zero = zero_on_log_scale(positive) if len(positive) < len(there) else None
        there = np.log10(positive if zero is None else np.append(positive, zero))
    low, high = (float(there.min()), float(there.max())) if len(there) else (0.0, 1.0)
    room = MARGIN * (high - low) or 0.5
    low, high = low - room, high + room
    return Scale(10**low, 10**high, zero) if is_log else Scale(low, high, None)


class LogLabels(LogFormatterSciNotation):
    """Labels of a logarithmic axis that has values below its range at ``zero``."""

    def __init__(self, zero: float) -> None:
        super().__init__()
        self._zero = zero

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the label at ``x``, the one of number ``pos``."""
        return "0" if np.isclose(x, self._zero) else super().__call__(x, pos) if x > self._zero else ""


def placed(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Return ``values`` with those that a logarithmic axis lacks at its zero."""
    return values if scale.zero is None else np.maximum(values, scale.zero)


def colour_of(line: Line, number: int, colours: dict[int, str]) -> str:
    """Return the colour of ``line``, which is the one of ``number`` in its plot."""
    return PALETTE[number % len(PALETTE)] if line.depth is None else colours[line.depth]


def middle_and_range(line: Line) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return median, minimum and maximum over seeds at each point of ``line``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Of points that no seed has.
        return np.nanmedian(line.values, 0), np.nanmin(line.values, 0), np.nanmax(line.values, 0)


def draw(panel: Panel, style: Style) -> Figure:
    """Draw the plots of ``panel`` next to each other: medians over seeds as lines, ranges as bands."""
    labels = [line.label for line in panel.plots[0].lines]
    names = [name for plot in panel.plots for name in plot.ticks]
    width = 4.3 * len(panel.plots) + sum(max(map(len, texts), default=0) * INCHES for texts in (labels, names))
    figure = Figure(figsize=(0.9 + width, max(3.9, 1.2 + 0.34 * len(names))), layout="constrained")
    axes = figure.subplots(1, len(panel.plots), squeeze=False)[0]
    guessing = {}
    for place, (axis, plot) in enumerate(zip(axes, panel.plots, strict=True)):
        scale = style.scale(plot)
        if plot.ticks:
            draw_bars(axis, plot, style)
        else:
            draw_lines(axis, plot, style)
            axis.sharex(axes[same_x(panel.plots, place)])
        if (error := guessing_reached(plot, scale)) is not None:
            line = (axis.axvline if plot.ticks else axis.axhline)(100 * error, color="0.3", linestyle=":", linewidth=1)
            guessing[guessing_label(error)] = line
        axis.set_title(plot.title)
        axis.grid(color="0.9")
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    handles, texts = axes[0].get_legend_handles_labels()
    handles, texts = [*handles, *guessing.values()], [*texts, *guessing]
    figure.legend(handles, texts, loc="outside right upper", fontsize="small", frameon=False)
    # At the left, where the legend is not.
    figure.suptitle(panel.title, x=0.01, horizontalalignment="left", fontsize="medium")
    return figure


def same_x(plots: Sequence[Plot], place: int) -> int:
    """Return the place of the first of ``plots`` over the same quantity as the one at ``place``."""
    return next(first for first, plot in enumerate(plots) if plot.x == plots[place].x and not plot.ticks)


def guessing_reached(plot: Plot, scale: Scale) -> float | None:
    """Return the error of guessing, a fraction, if ``scale`` reaches it; None without one."""
    error = plot.guessing
    return error if error is not None and 100 * error < scale.high else None


def draw_lines(axis: Axes, plot: Plot, style: Style) -> None:
    """Draw the lines of ``plot`` on ``axis``."""
    scale = style.scale(plot)
    for number, line in enumerate(plot.lines):
        colour = colour_of(line, number, style.colours)
        middle, low, high = (placed(each, scale) for each in middle_and_range(line))
        dashes, label = "--" if line.is_dashed else "-", in_words(line.label)
        axis.plot(line.x, middle, dashes, color=colour, linewidth=1.6, label=label)
        if len(line.values) > 1:
            axis.fill_between(line.x, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.plot(line.x[list(line.marks)], middle[list(line.marks)], "o", color=colour, markersize=4)
    if plot.is_log:
        axis.set_yscale("log")
        if scale.zero is not None:
            axis.yaxis.set_major_formatter(LogLabels(scale.zero))
    axis.set_ylim(scale.low, scale.high)
    axis.set_xlabel(plot.x)
    axis.set_ylabel(plot.y)


def draw_bars(axis: Axes, plot: Plot, style: Style) -> None:
    """Draw the lines of ``plot`` as horizontal bars on ``axis``, the first place at the top."""
    height = 0.8 / len(plot.lines)
    for number, line in enumerate(plot.lines):
        places = line.x + (number - (len(plot.lines) - 1) / 2) * height
        middle, _, _ = middle_and_range(line)
        axis.barh(places, middle, height, color=colour_of(line, number, style.colours), label=in_words(line.label))
    axis.set_yticks(range(len(plot.ticks)), [in_words(name) for name in plot.ticks])
    axis.invert_yaxis()
    axis.set_xlim(0, style.scale(plot).high)
    axis.set_xlabel(plot.y)


def interactive(panel: Panel, style: Style, with_library: bool) -> str:
    """Return ``panel`` as HTML with a plot that answers the pointer.

    Args:
      panel: to be shown.
      style: the result of ``style_of``.
      with_library: whether the page does not have Plotly's library yet.
    """
    titles = [plot.title for plot in panel.plots]
    layout = make_subplots(
        1, len(panel.plots), subplot_titles=titles, horizontal_spacing=0.33 / len(panel.plots)
    ).layout
    layout.update(template="simple_white", height=410, margin={"l": 60, "r": 10, "t": 70, "b": 50}, barmode="group")
    traces: list[dict[str, Any]] = []
    named: set[str] = set()  # Lines of guessing in the legend.
    for number, plot in enumerate(panel.plots, start=1):
        suffix = "" if number == 1 else str(number)
        scale = style.scale(plot)
        along, across = ("yaxis", "xaxis") if plot.ticks else ("xaxis", "yaxis")
        layout[f"{along}{suffix}"].update(title={"text": plot.x}, autorange="reversed" if plot.ticks else True)
        if not plot.ticks and (first := same_x(panel.plots, number - 1) + 1) != number:
            layout[f"{along}{suffix}"].matches = f"x{first if first > 1 else ''}"
        layout[f"{across}{suffix}"].update(title={"text": plot.y}, automargin=True, **axis_of(plot, scale))
        for place, line in enumerate(plot.lines):
            colour = colour_of(line, place, style.colours)
            traces += traces_of(line, plot, scale, colour, suffix, is_first=number == 1)
        if (error := guessing_reached(plot, scale)) is not None:
            shape = guessing_line(error, suffix, across)
            layout.shapes += (shape | {"showlegend": shape["name"] not in named},)
            named.add(shape["name"])
    figure = {"data": traces, "layout": layout.to_plotly_json()}
    return plotly.io.to_html(
        figure, {"responsive": True}, full_html=False, include_plotlyjs=with_library, validate=False
    )


def axis_of(plot: Plot, scale: Scale) -> dict[str, Any]:
    """Return type, range and ticks of the axis of ``plot`` in Plotly's words."""
    if not plot.is_log:
        return {"type": "linear", "range": [0 if plot.ticks else scale.low, scale.high]}
    axis = {"type": "log", "range": [math.log10(scale.low), math.log10(scale.high)]}
    if scale.zero is None:
        return axis
    decades = decades_above(scale.zero, scale.high)
    return axis | {"tickvals": [scale.zero, *decades], "ticktext": ["0", *(f"{value:g}" for value in decades)]}


def guessing_line(error: float, suffix: str, across: str) -> dict[str, Any]:
    """Return a named line at the ``error`` of guessing, a fraction, over the axis ``across`` of a plot."""
    ends = {"x0": 0, "x1": 1, "y0": 100 * error, "y1": 100 * error, "xref": f"x{suffix} domain", "yref": f"y{suffix}"}
    if across == "xaxis":
        ends = {
            "y0": 0,
            "y1": 1,
            "x0": 100 * error,
            "x1": 100 * error,
            "xref": f"x{suffix}",
            "yref": f"y{suffix} domain",
        }
    style = {"color": "#555", "width": 1, "dash": "dot"}
    return {"type": "line", **ends, "line": style, "name": guessing_label(error)}


def traces_of(line: Line, plot: Plot, scale: Scale, colour: str, suffix: str, is_first: bool) -> list[dict[str, Any]]:
    """Return ``line`` as traces: its median, and its range where there is one."""
    middle, low, high = (placed(each, scale) for each in middle_and_range(line))
    name = html.escape(in_words(line.label), quote=False)  # Plotly takes some HTML in labels.
    common = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}", "legendgroup": line.label, "name": name}
    if plot.ticks:
        ticks = [html.escape(in_words(each), quote=False) for each in plot.ticks]
        bars = {"type": "bar", "orientation": "h", "x": middle, "y": ticks, "marker": {"color": colour}}
        return [{**common, **bars, "showlegend": is_first}]
    style = {"color": colour, "dash": "dash" if line.is_dashed else "solid", "width": 2}
    drawn = {"type": "scatter", "mode": "lines", "x": line.x, "y": middle, "line": style, "showlegend": is_first}
    traces = [{**common, **drawn, "hovertemplate": f"{name}<br>%{{x}}: %{{y:.4g}}<extra></extra>"}]
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
