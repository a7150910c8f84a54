"""The page of ``resnet_jax.report.why``: Markdown with pictures, and one HTML page with interactive plots."""

import html
import itertools
import pathlib
import re
from collections.abc import Iterable, Sequence

from resnet_jax import escape
from resnet_jax.analysis.contrast import RULE
from resnet_jax.report import why, why_figures
from resnet_jax.report.filters import draw_filters
from resnet_jax.report.pictures import save, svg
from resnet_jax.safe_files import write_text

FILTERS_NOTE = (
    "Red is positive, blue negative, each picture by its own largest value; filters of colour images are in colour, "
    "with grey for 0. Per stage: response of each block's branch to a channel in the same channel, without norms "
    "and ReLUs; shortcuts join what is in one row."
)
# Least width of a plot, in units of the font's size; a narrower window scrolls.
LEAST_WIDTH = 20
TITLE = "What the nets look like inside"
STYLE = (
    "body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 0 auto; padding: 1rem; } "
    "h2 { font-size: 1.15rem; margin-top: 2rem; } .says { border-left: 4px solid #0072B2; padding: .2rem 1rem; "
    "background: #f4f8fb; } .note { font-size: .85rem; color: #555; } "
    "pre { white-space: pre-wrap; font-size: .85rem; } "
    ".scroll, .figure { overflow-x: auto; } .figure svg { max-width: 100%; min-width: 30rem; height: auto; }"
)


def write(out: pathlib.Path, page: why.Page, command: str) -> None:
    """Write ``page``, which ``command`` makes, and its pictures to the existing folder ``out``."""
    write_pictures(out, page, ("png", "svg"))
    write_text(out / "why.md", f"# {TITLE}\n\n{escape.fenced(command)}\n\n{markdown(page)}")
    write_text(out / "why.html", whole_page(page, command))


def write_pictures(out: pathlib.Path, page: why.Page, suffixes: Sequence[str]) -> None:
    """Write the panels of ``page`` to the existing folder ``out``, in the formats ``suffixes``."""
    style = why_figures.style_of(page.panels)
    for panel in page.panels:
        figure = why_figures.draw(panel, style)
        for suffix in suffixes:
            save(figure, out / f"{panel.name}.{suffix}")
    for label, name in filters_names(page.filters).items():
        save(draw_filters(page.filters[label]), out / f"{name}.png")


def filters_names(labels: Iterable[str]) -> dict[str, str]:
    """Return the names of the files with the filters of the nets that are called ``labels``, without the suffix."""
    names: dict[str, str] = {}
    for label in labels:
        name = "why_filters_" + re.sub(r"[^\w.+-]+", "_", label)
        numbered = (f"{name}_{number}" for number in itertools.count(len(names) + 1))
        names[label] = next(each for each in itertools.chain([name], numbered) if each not in names.values())
    return names


def markdown(page: why.Page) -> str:
    """Return the panels of ``page`` as Markdown; the pictures lie next to its file."""
    parts = [RULE]
    for panel in page.panels:
        picture = f"![{panel.title}]({panel.name}.png)"
        parts += [f"### {panel.title}", escape.markdown(panel.says), picture, escape.markdown(panel.note)]
    for label, name in filters_names(page.filters).items():
        title = f"Filters of {escape.markdown(label)}"
        parts += [f"### {title}", f"![{title}]({name}.png)", FILTERS_NOTE]
    return "\n\n".join(filter(None, [*parts, *map(escape.markdown, page.foot)])) + "\n"


def sections(page: why.Page, with_library: bool) -> str:
    """Return the panels of ``page`` as HTML; ``with_library``: with Plotly's library, for a page without it."""
    style = why_figures.style_of(page.panels)
    parts = []
    for number, panel in enumerate(page.panels):
        plot = why_figures.interactive(panel, style, with_library=with_library and number == 0)
        parts.append(
            f'<h2>{html.escape(panel.title)}</h2>\n<p class="says">{html.escape(panel.says)}</p>\n'
            f'<div class="scroll"><div style="min-width: {LEAST_WIDTH * len(panel.plots)}rem">{plot}</div></div>\n'
            f'<p class="note">{html.escape(panel.note)}</p>'
        )
    for label, measurement in page.filters.items():
        picture = svg(draw_filters(measurement))
        parts.append(
            f'<h2>Filters of {html.escape(label)}</h2>\n<div class="figure">{picture}</div>\n'
            f'<p class="note">{FILTERS_NOTE}</p>'
        )
    parts += [f"<p>{html.escape(sentence)}</p>" for sentence in page.foot]
    return "\n".join(parts)


def whole_page(page: why.Page, command: str) -> str:
    """Return ``page`` as one HTML page that needs no network."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{TITLE}</title><style>{STYLE}</style></head><body>\n<h1>{TITLE}</h1>\n<p>{html.escape(RULE)}</p>\n"
        f"{sections(page, with_library=True)}\n<pre>{html.escape(command)}</pre>\n</body></html>\n"
    )
