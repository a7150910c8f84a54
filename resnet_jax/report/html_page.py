"""The comparison as one self-contained HTML page that opens from disk, without a network."""

import html
import math
import pathlib
import shlex
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.io
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from resnet_jax.analysis.runs import Replicates, Run, differing_fields, group_depths, nets_of
from resnet_jax.report.display import error_of_guessing, in_words
from resnet_jax.report.figures import (
    WIDTHS,
    colours,
    decades_above,
    draw_depths,
    guessing_label,
    has_depths,
    last_finite,
    thinned,
    zero_on_log_scale,
)
from resnet_jax.report.pictures import svg
from resnet_jax.report.tables import without_shared

TEMPLATE = pathlib.Path(__file__).with_name("report.html")
AXES = {"step": "step (mini-batches)", "epoch": "epoch", "seconds": "time (s)"}
# Points of a curve; longer ones are thinned, or the page of hundreds of runs would be too large for a browser.
MOST_POINTS, LEAST_POINTS = 400, 50
MOST_POINTS_IN_ALL = 100_000
MOST_SVG_TRACES = 100


class Section(NamedTuple):
    """A part of the page that only some comparisons have.

    Attributes:
      title: its heading.
      texts: paragraphs.
      rows: of its table, all with the same keys; none: no table.
      figure: if it has one.
      html: further parts, as HTML.
    """

    title: str
    texts: Sequence[str]
    rows: Sequence[dict[str, Any]] = ()
    figure: Figure | None = None
    html: str = ""


def report(
    title: str,
    question: str,
    runs: Sequence[Run],
    nets: Sequence[Replicates],
    rows: Sequence[dict[str, str]],
    verdict: Sequence[str],
    left_out: Sequence[str],
    commands: Sequence[str],
    sections: Sequence[Section] = (),
    refresh: int | None = None,
) -> str:
    """Return the page as HTML.

    Args:
      title: its heading.
      question: the question that the runs answer.
      runs: all that were read.
      nets: whose curves and errors over depth are drawn.
      rows: the table of all nets, the result of ``tables.text_rows``.
      verdict: in sentences.
      left_out: sentences on runs that are not in the verdict, not drawn or could not be read.
      commands: that reproduce the runs and this page.
      sections: further parts.
      refresh: seconds after which a browser loads the page again; None: never.
    """
    differing = differing_fields([run.config for run in runs])
    shared, rows = without_shared(rows)
    return string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        refresh=refreshing(refresh) if refresh else "",
        question=html.escape(question),
        verdict=paragraphs(verdict),
        left_out=paragraphs(left_out),
        curves=interactive_curves(nets),
        depths=section(Section("Final error over depth", [], figure=draw_depths(nets))) if has_depths(nets) else "",
        sections="\n".join(map(section, sections)),
        shared=paragraphs(filter(None, [shared])),
        table=table_of(rows),
        differences=table_of({"run": run.name} | {name: run.config.get(name) for name in differing} for run in runs),
        common=table_of(
            {"field": name, "value": value} for name, value in runs[0].config.items() if name not in differing
        ),
        environments=table_of(environment_rows(runs)),
        commands=html.escape("\n".join(commands)),
        run_commands=html.escape("\n".join(f"# {run.name}\n{shlex.join(run.command)}" for run in runs)),
    )


def refreshing(seconds: int) -> str:
    """Return the element by which a browser loads the page again after ``seconds``."""
    return f'<meta http-equiv="refresh" content="{seconds}">'


def section(part: Section) -> str:
    """Return ``part`` as HTML."""
    figure = f'<div class="figure">{svg(part.figure)}</div>' if part.figure else ""
    table = f'<div class="scroll">{table_of(part.rows)}</div>' if part.rows else ""
    return f"<h2>{html.escape(part.title)}</h2>\n{figure}\n{paragraphs(part.texts)}\n{table}\n{part.html}"


def interactive_curves(nets: Sequence[Replicates]) -> str:
    """Return the curves of all runs as HTML, one panel per series in their order, with buttons for axis and scale.

    All panels have the same axes. The logarithmic scale has an error of 0 at its lower end, labelled as 0.
    """
    panels = group_depths(nets)
    titles = [html.escape(in_words(nets_of(series)), quote=False) for series in panels]
    spacing = 0.3 / (len(panels) + 1)
    layout = make_subplots(
        len(panels), 1, shared_xaxes="all", shared_yaxes="all", subplot_titles=titles, vertical_spacing=spacing
    ).layout
    layout.update(curves_layout(len(panels)))
    traces, xs = traces_of(panels)
    errors = np.concatenate([trace["y"] for trace in traces]) if traces else np.zeros(0)
    last = f"xaxis{len(panels) if len(panels) > 1 else ''}"
    by_axis = [
        {"label": axis, "method": "update", "args": [{"x": xs[axis]}, {f"{last}.title.text": title}]}
        for axis, title in AXES.items()
    ]
    layout[last].title.text = AXES["step"]
    guessing = error_of_guessing(nets)
    if guessing is not None and 100 * guessing > errors.max(initial=0):
        guessing = None  # The axis does not reach it.
    if guessing is not None:
        layout.shapes = [guessing_line(guessing, row) for row in range(1, len(panels) + 1)]
        layout.annotations += tuple(guessing_text(guessing, row) for row in range(1, len(panels) + 1))
    figure = {"data": traces, "layout": layout.to_plotly_json()}
    axis_menu, scale_menu = figure["layout"]["updatemenus"]
    axis_menu["buttons"], scale_menu["buttons"] = by_axis, scale_buttons(traces, len(panels), guessing)
    # Plotly's validation would take a minute for hundreds of curves.
    config = {"responsive": True}
    return plotly.io.to_html(figure, config, full_html=False, include_plotlyjs=True, validate=False)


def traces_of(panels: Mapping[str, Sequence[Replicates]]) -> tuple[list[dict[str, Any]], dict[str, list[np.ndarray]]]:
    """Return the curves of the series in ``panels`` as traces, and the x values of each by axis.

    Errors are in per cent. A trace of a single cross marks where a run diverged.
    """
    nets = [net for members in panels.values() for net in members]
    count = sum(2 * len(net.runs) for net in nets)
    most_points = max(LEAST_POINTS, min(MOST_POINTS, MOST_POINTS_IN_ALL // count))
    xs: dict[str, list[np.ndarray]] = {axis: [] for axis in AXES}
    traces: list[dict[str, Any]] = []
    colour_of = colours(nets)
    for row, members in enumerate(panels.values(), start=1):
        for net in members:
            name = html.escape(in_words(net.label), quote=False)  # Plotly takes some HTML in labels.
            for index, run in enumerate(net.runs):
                # WebGL can draw thousands of lines; SVG is sharper for a few.
                common = {
                    "type": "scatter" if count <= MOST_SVG_TRACES else "scattergl",
                    "xaxis": f"x{row}",
                    "yaxis": f"y{row}",
                    "name": name,
                    "legendgroup": net.label,
                }
                for split, width in WIDTHS.items():
                    curves = {axis: run.curve(split, axis) for axis in AXES}
                    kept = thinned(len(curves["step"][0]), most_points)
                    for axis, (x, _) in curves.items():
                        xs[axis].append(x[kept])
                    style = {
                        "showlegend": index == 0 and split == "test",
                        "mode": "lines",
                        "line": {"color": colour_of[net.depth], "width": width},
                        "hovertemplate": f"{html.escape(run.name)}, {split}<br>%{{x}}: %{{y:.2f}} %<extra></extra>",
                    }
                    traces.append({**common, "x": xs["step"][-1], "y": 100 * curves["step"][1][kept], **style})
                ends = {axis: last_finite(run, axis) for axis in AXES} if run.diverged else {}
                if ends and (end := ends["step"]):
                    for axis, there in ends.items():
                        xs[axis].append(np.array([there[0]] if there else []))
                    style = {
                        "showlegend": False,
                        "mode": "markers",
                        "marker": {"color": colour_of[net.depth], "symbol": "x", "size": 9},
                        "hovertemplate": f"{html.escape(run.name)} diverged<br>%{{x}}: %{{y:.2f}} %<extra></extra>",
                    }
                    traces.append({**common, "x": xs["step"][-1], "y": np.array([100 * end[1]]), **style})
    return traces, xs


def guessing_line(error: float, row: int) -> dict[str, Any]:
    """Return a line at the ``error`` of guessing, a fraction, in panel ``row``."""
    ends = {"x0": 0, "x1": 1, "y0": 100 * error, "y1": 100 * error}
    return {"type": "line", **panel_axes(row), **ends, "line": {"color": "#555", "width": 1, "dash": "dot"}}


def guessing_text(error: float, row: int) -> dict[str, Any]:
    """Return the label of that line, to the right of the panel."""
    text = guessing_label(error).replace(": ", "<br>")
    place = {**panel_axes(row), "x": 1, "y": 100 * error, "xanchor": "left", "align": "left"}
    return {"text": text, **place, "font": {"size": 11, "color": "#555"}, "showarrow": False}


def panel_axes(row: int) -> dict[str, str]:
    """Return the axes of something that spans the width of panel ``row`` at some errors."""
    number = row if row > 1 else ""
    return {"xref": f"x{number} domain", "yref": f"y{number}"}


def curves_layout(panels: int) -> dict[str, Any]:
    """Return the layout of ``panels`` stacked panels with the menus of buttons above them."""
    height = 320 * panels
    place = {"type": "buttons", "direction": "right", "xanchor": "left", "x": 0, "yanchor": "top"}
    axes: dict[str, Any] = {}
    for index in range(panels):
        number = index + 1 if index else ""
        axes[f"xaxis{number}"] = {"rangemode": "tozero"}
        axes[f"yaxis{number}"] = {"rangemode": "tozero", "title": {"text": "error (%)"}}
    return {
        **axes,
        "height": 155 + height,
        "template": "simple_white",
        "margin": {"l": 60, "r": 60, "t": 125, "b": 50},
        "legend": {"orientation": "h", "y": -60 / height, "yanchor": "top"},
        "hovermode": "closest",
        # Below each other, for narrow windows.
        "updatemenus": [{**place, "y": 1 + pixels / height} for pixels in (105, 68)],
    }


def scale_buttons(traces: Sequence[dict[str, Any]], panels: int, guessing: float | None) -> list[dict[str, Any]]:
    """Return the buttons of the scale of the error axes of all ``panels``.

    A logarithmic scale would leave out errors of 0, so it has a place for them at its lower end. The annotations that
    follow the titles of panels label the error of ``guessing``, a fraction; on a logarithmic axis Plotly places them by
    the logarithm.
    """
    with_zeros = [index for index, trace in enumerate(traces) if np.any(trace["y"] == 0)]
    positive = np.concatenate([np.zeros(0), *(trace["y"][trace["y"] > 0] for trace in traces)])
    zero = zero_on_log_scale(positive)
    decades = decades_above(zero, positive.max(initial=zero))
    ticks = {"tickvals": [zero, *decades], "ticktext": ["0", *(f"{value:g}" for value in decades)], "tickmode": "array"}
    by_scale: dict[str, tuple[dict[str, Any], Any]] = {
        "linear": ({"type": "linear", "tickmode": "auto"}, lambda y: y),
        "log": ({"type": "log"} | (ticks if with_zeros else {}), lambda y: np.where(y == 0, zero, y)),
    }
    names = ["yaxis" if index == 0 else f"yaxis{index + 1}" for index in range(panels)]
    buttons = []
    for label, (axis, drawn) in by_scale.items():
        layout = {f"{name}.{key}": value for name in names for key, value in (*axis.items(), ("autorange", True))}
        if guessing is not None:
            place = math.log10(100 * guessing) if label == "log" else 100 * guessing
            layout |= {f"annotations[{panels + row}].y": place for row in range(panels)}
        # Without traces an update would be of all.
        data = [{"y": [drawn(traces[index]["y"]) for index in with_zeros]}, layout, with_zeros]
        method = {"method": "update", "args": data} if with_zeros else {"method": "relayout", "args": [layout]}
        buttons.append({"label": label} | method)
    return buttons


def environment_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return hardware and versions of each start of each run."""
    rows = []
    for run in runs:
        for each in run.environments:
            packages = each.get("packages", {})
            revision = (each.get("git_revision") or "")[:10]
            if each.get("git_dirty"):
                revision += f" + changes in {', '.join(each.get('git_changed') or ['files not recorded'])}"
            rows.append(
                {
                    "run": run.name,
                    "started": each.get("time"),
                    "device": f"{each.get('device_count')} x {each.get('device_kind')}",
                    "hosts": each.get("host_count"),
                    "python": each.get("python"),
                    **{name: packages.get(name) for name in ("jax", "flax", "optax")},
                    "revision": revision,
                    "XLA flags": each.get("xla_flags"),
                }
            )
    return rows


def paragraphs(texts: Iterable[str]) -> str:
    """Return ``texts`` as paragraphs."""
    return "\n".join(f"<p>{html.escape(text)}</p>" for text in texts)


def table_of(rows: Iterable[dict[str, Any]]) -> str:
    """Return ``rows``, all with the same keys, as an HTML table."""
    rows = list(rows)
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    body = "\n".join(
        "<tr>"
        + "".join(f"<td>{html.escape('' if value is None else str(value))}</td>" for value in row.values())
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"
