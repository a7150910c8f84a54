"""One self-contained page on a comparison: it opens from disk, without a network."""

import html
import io
import pathlib
import shlex
import string
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from resnet_jax.analysis.figures import WIDTHS, colours, draw_depths, families
from resnet_jax.analysis.runs import Net, Run, differing_fields
from resnet_jax.analysis.tables import records, text_rows
from resnet_jax.analysis.verdict import Verdict, sentences

TEMPLATE = pathlib.Path(__file__).with_name("report.html")
AXES = {"step": "step (mini-batches)", "epoch": "epoch", "seconds": "time (s)"}
MOST_POINTS = 400
"""Of one curve; a longer one is thinned, or hundreds of runs would make a page no browser opens."""
MOST_SVG_TRACES = 100


def report(
    title: str, question: str, nets: Sequence[Net], verdict: Verdict, problems: Sequence[str], commands: Sequence[str]
) -> str:
    """Return the page as HTML.

    Args:
      title: its heading.
      question: what the runs are to answer.
      nets: all that were read.
      verdict: on their runs.
      problems: sentences on what could not be read.
      commands: that make the runs and this page again.
    """
    runs = [run for net in nets for run in net.runs]
    differing = differing_fields([run.config for run in runs])
    left_out = [f"{run.name} is not in the verdict: {reason}." for run, reason in verdict.left_out]
    return string.Template(TEMPLATE.read_text()).substitute(
        title=html.escape(title),
        question=html.escape(question),
        verdict=paragraphs(sentences(verdict)),
        left_out=paragraphs([*left_out, *problems]),
        curves=interactive_curves(nets).to_html(full_html=False, include_plotlyjs=True, config={"responsive": True}),
        depths=svg(draw_depths(nets)),
        table=table_of(text_rows(records(nets))),
        differences=table_of({"run": run.name} | {name: run.config.get(name) for name in differing} for run in runs),
        shared=table_of(
            {"field": name, "value": value} for name, value in runs[0].config.items() if name not in differing
        ),
        environments=table_of(environment_rows(runs)),
        commands=html.escape("\n".join(commands)),
        run_commands=html.escape("\n".join(f"# {run.name}\n{shlex.join(run.command)}" for run in runs)),
    )


def interactive_curves(nets: Sequence[Net]) -> go.Figure:
    """Return the curves of every run, a panel for each family, with buttons for axis and scale."""
    panels = families(nets)
    figure = make_subplots(
        len(panels),
        1,
        shared_xaxes=True,
        subplot_titles=[f"{family} nets" for family in panels],
        vertical_spacing=0.3 / (len(panels) + 1),
    )
    xs: dict[str, list[list[float]]] = {axis: [] for axis in AXES}
    runs = [run for net in nets for run in net.runs]
    # WebGL draws thousands of lines, SVG draws some sharply.
    trace = go.Scatter if 2 * len(runs) <= MOST_SVG_TRACES else go.Scattergl
    for row, members in enumerate(panels.values(), start=1):
        for net in members:
            for index, run in enumerate(net.runs):
                for split, width in WIDTHS.items():
                    curves = {axis: run.curve(split, axis) for axis in AXES}
                    stride = -(-len(curves["step"][0]) // MOST_POINTS) or 1
                    for axis, (x, _) in curves.items():
                        xs[axis].append(x[::stride].tolist())
                    figure.add_trace(
                        trace(
                            x=xs["step"][-1],
                            y=(100 * curves["step"][1][::stride]).tolist(),
                            name=net.label,
                            legendgroup=net.label,
                            showlegend=index == 0 and split == "test",
                            mode="lines",
                            line={"color": colours(nets)[net.depth], "width": width},
                            hovertemplate=f"{html.escape(run.name)}, {split}<br>%{{x}}: %{{y:.2f}} %<extra></extra>",
                        ),
                        row=row,
                        col=1,
                    )
    last = "xaxis" if len(panels) == 1 else f"xaxis{len(panels)}"
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(title_text="error (%)", rangemode="tozero")
    figure.update_layout(
        height=120 + 320 * len(panels),
        template="simple_white",
        margin={"l": 60, "r": 10, "t": 90, "b": 50},
        legend={"orientation": "h", "y": -60 / (320 * len(panels)), "yanchor": "top"},
        hovermode="closest",
        updatemenus=[
            {
                "type": "buttons",
                "direction": "right",
                "x": x,
                "xanchor": "left",
                "y": 1 + 70 / (320 * len(panels)),
                "yanchor": "top",
                "buttons": buttons,
            }
            for x, buttons in (
                (
                    0,
                    [
                        {"label": axis, "method": "update", "args": [{"x": xs[axis]}, {f"{last}.title.text": title}]}
                        for axis, title in AXES.items()
                    ],
                ),
                (
                    0.55,
                    [
                        {"label": scale, "method": "relayout", "args": [scale_of(len(panels), scale)]}
                        for scale in ("linear", "log")
                    ],
                ),
            )
        ],
    )
    figure.layout[last].title.text = AXES["step"]
    return figure


def scale_of(panels: int, scale: str) -> dict[str, Any]:
    """Return the change of layout that gives the error axes of all ``panels`` a scale."""
    names = ["yaxis" if index == 0 else f"yaxis{index + 1}" for index in range(panels)]
    return {f"{name}.{key}": value for name in names for key, value in (("type", scale), ("autorange", True))}


def environment_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return what each start of each run was made with."""
    rows = []
    for run in runs:
        for each in run.environments:
            packages = each.get("packages", {})
            revision = (each.get("git_revision") or "")[:10] + (" with changes" if each.get("git_dirty") else "")
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
    """Return ``rows``, all with the same names, as a table."""
    rows = list(rows)
    if not rows:
        return "<p>Nothing.</p>"
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    body = "\n".join(
        "<tr>"
        + "".join(f"<td>{html.escape('' if value is None else str(value))}</td>" for value in row.values())
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def svg(figure: Any) -> str:
    """Return matplotlib ``figure`` as an SVG element."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg")
    text = stream.getvalue()
    return text[text.index("<svg") :]
