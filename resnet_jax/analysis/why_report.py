"""The page of ``resnet_jax.analysis.why``: Markdown with pictures, and one HTML page with interactive plots."""

import html
import pathlib
from collections.abc import Sequence

from resnet_jax.analysis import why, why_figures
from resnet_jax.analysis.contrast import RULE
from resnet_jax.analysis.diagnosed import Diagnosed
from resnet_jax.analysis.runs import Replicates
from resnet_jax.rundir import write_text

STYLE = (
    "body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 0 auto; padding: 1rem; } "
    "h2 { font-size: 1.15rem; margin-top: 2rem; } .says { border-left: 4px solid #0072B2; padding: .2rem 1rem; "
    "background: #f4f8fb; } .note { font-size: .85rem; color: #555; } pre { white-space: pre-wrap; font-size: .85rem; }"
)


def write(out: pathlib.Path, measured: Sequence[Diagnosed], nets: Sequence[Replicates], command: str) -> why.Page:
    """Write the page and its pictures to ``out``, and return it.

    Args:
      out: an existing folder.
      measured: nets.
      nets: of the runs that are beside them.
      command: that makes the page.
    """
    page = why.page(measured, nets)
    colours = why_figures.colour_map(page.panels)
    for panel in page.panels:
        figure = why_figures.draw(panel, colours)
        for suffix in ("png", "svg"):
            figure.savefig(out / f"{panel.name}.{suffix}", dpi=120)
    write_text(out / "why.md", markdown(page, command))
    write_text(out / "why.html", whole_page(page, command))
    return page


def markdown(page: why.Page, command: str) -> str:
    """Return ``page`` as Markdown, beside whose file the pictures lie."""
    parts = ["# What the nets look like inside", RULE, f"```sh\n{command}\n```"]
    for panel in page.panels:
        picture = f"![{panel.title}]({panel.name}.png)"
        parts += [f"## {panel.title}", f"**{panel.says}**", picture, panel.note]
    return "\n\n".join(filter(None, [*parts, "## Beside this", *page.foot])) + "\n"


def sections(page: why.Page, with_library: bool) -> str:
    """Return the panels of ``page`` as HTML; ``with_library``: with Plotly's library, for a page without it."""
    colours = why_figures.colour_map(page.panels)
    parts = []
    for number, panel in enumerate(page.panels):
        plot = why_figures.interactive(panel, colours, with_library=with_library and number == 0)
        parts.append(
            f'<h2>{html.escape(panel.title)}</h2>\n<p class="says">{html.escape(panel.says)}</p>\n{plot}\n'
            f'<p class="note">{html.escape(panel.note)}</p>'
        )
    parts += [f"<p>{html.escape(sentence)}</p>" for sentence in page.foot]
    return "\n".join(parts)


def whole_page(page: why.Page, command: str) -> str:
    """Return ``page`` as one HTML page that needs no network."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>What the nets look like inside</title><style>{STYLE}</style></head><body>\n"
        f"<h1>What the nets look like inside</h1>\n<p>{html.escape(RULE)}</p>\n"
        f"{sections(page, with_library=True)}\n<pre>{html.escape(command)}</pre>\n</body></html>\n"
    )
