"""The comparison as one self-contained HTML page that opens from disk, without a network."""

import html
import pathlib
import shlex
import string
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.io
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from resnet_jax.analysis.figures import WIDTHS, colours, draw_depths, thinned
from resnet_jax.analysis.pictures import svg
from resnet_jax.analysis.runs import Replicates, Run, differing_fields, group_depths, nets_of

TEMPLATE = pathlib.Path(__file__).with_name("report.html")
AXES = {"step": "step (mini-batches)", "epoch": "epoch", "seconds": "time (s)"}
# Of a curve; longer ones are thinned, or the page of hundreds of runs would be too large for a browser.
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
    return string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        refresh=refreshing(refresh) if refresh else "",
        question=html.escape(question),
        verdict=paragraphs(verdict),
        left_out=paragraphs(left_out),
        curves=interactive_curves(nets),
        depths=svg(draw_depths(nets)),
        sections="\n".join(map(section, sections)),
        table=table_of(rows),
        differences=table_of({"run": run.name} | {name: run.config.get(name) for name in differing} for run in runs),
        shared=table_of(
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
    """Return the curves of all runs as HTML, one panel per series, with buttons for axis and scale."""
    panels = group_depths(nets)
    titles = [html.escape(nets_of(series), quote=False) for series in panels]
    spacing = 0.3 / (len(panels) + 1)
    layout = make_subplots(len(panels), 1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=spacing).layout
    layout.update(curves_layout(len(panels)))
    count = sum(2 * len(net.runs) for net in nets)
    most_points = max(LEAST_POINTS, min(MOST_POINTS, MOST_POINTS_IN_ALL // count))
    xs: dict[str, list[np.ndarray]] = {axis: [] for axis in AXES}
    traces = []
    colour_of = colours(nets)
    for row, members in enumerate(panels.values(), start=1):
        for net in members:
            for index, run in enumerate(net.runs):
                for split, width in WIDTHS.items():
                    curves = {axis: run.curve(split, axis) for axis in AXES}
                    records = len(curves["step"][0])
                    kept = thinned(records, most_points)
                    for axis, (x, _) in curves.items():
                        xs[axis].append(x[kept])
                    trace = {
                        # WebGL can draw thousands of lines; SVG is sharper for a few.
                        "type": "scatter" if count <= MOST_SVG_TRACES else "scattergl",
                        "x": xs["step"][-1],
                        "y": 100 * curves["step"][1][kept],
                        "xaxis": f"x{row}",
                        "yaxis": f"y{row}",
                        "name": html.escape(net.label, quote=False),  # Plotly takes some HTML in labels.
                        "legendgroup": net.label,
                        "showlegend": index == 0 and split == "test",
                        "mode": "lines",
                        "line": {"color": colour_of[net.depth], "width": width},
                        "hovertemplate": f"{html.escape(run.name)}, {split}<br>%{{x}}: %{{y:.2f}} %<extra></extra>",
                    }
                    traces.append(trace)
    last = f"xaxis{len(panels) if len(panels) > 1 else ''}"
    by_axis = [
        {"label": axis, "method": "update", "args": [{"x": xs[axis]}, {f"{last}.title.text": title}]}
        for axis, title in AXES.items()
    ]
    layout[last].title.text = AXES["step"]
    figure = {"data": traces, "layout": layout.to_plotly_json()}
    figure["layout"]["updatemenus"][0]["buttons"] = by_axis
    # Plotly's validation would take a minute for hundreds of curves.
    config = {"responsive": True}
    return plotly.io.to_html(figure, config, full_html=False, include_plotlyjs=True, validate=False)


def curves_layout(panels: int) -> dict[str, Any]:
    """Return the layout of ``panels`` stacked panels with the buttons above them."""
    height = 320 * panels
    place = {"type": "buttons", "direction": "right", "xanchor": "left", "y": 1 + 70 / height, "yanchor": "top"}
    scales = [{"label": scale, "method": "relayout", "args": [scale_of(panels, scale)]} for scale in ("linear", "log")]
    axes: dict[str, Any] = {}
    for index in range(panels):
        number = index + 1 if index else ""
        axes[f"xaxis{number}"] = {"rangemode": "tozero"}
        axes[f"yaxis{number}"] = {"rangemode": "tozero", "title": {"text": "error (%)"}}
    return {
        **axes,
        "height": 120 + height,
        "template": "simple_white",
        "margin": {"l": 60, "r": 10, "t": 90, "b": 50},
        "legend": {"orientation": "h", "y": -60 / height, "yanchor": "top"},
        "hovermode": "closest",
        "updatemenus": [{**place, "x": 0}, {**place, "x": 0.55, "buttons": scales}],
    }


def scale_of(panels: int, scale: str) -> dict[str, Any]:
    """Return the change of layout that sets ``scale`` on the error axes of all ``panels``."""
    names = ["yaxis" if index == 0 else f"yaxis{index + 1}" for index in range(panels)]
    return {f"{name}.{key}": value for name in names for key, value in (("type", scale), ("autorange", True))}


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
