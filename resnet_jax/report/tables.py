"""The comparison as a table: records with full precision, and rows of text for display."""

import csv
import io
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from resnet_jax import models
from resnet_jax.analysis.gap import mean_and_seeds
from resnet_jax.analysis.runs import Replicates, Run
from resnet_jax.config import default, flatten
from resnet_jax.escape import markdown
from resnet_jax.fields import INTERVENTION_FIELDS
from resnet_jax.report.display import divergence

PUBLISHED = pathlib.Path(__file__).with_name("published.json")
FIGURES = {
    "training error": lambda run: run.final("train_clean"),
    "test error": lambda run: run.final("test"),
    "best training error": lambda run: run.best("train_clean"),
    "best test error": lambda run: run.best("test"),
}
TITLE = "Errors after the last step in per cent: mean (each seed)"
# Columns that become a sentence where all rows agree.
SHARED = ("seeds", "parameters", "multiply-adds", "source")
# Spaces between two columns in a terminal.
GAP = 2
# Letters of a line in the column of seeds, in a terminal.
MOST_LETTERS = 11
# Columns that a narrow terminal does without, the first ones first.
LEAST_IMPORTANT = (
    *("source", "best test error (%)", "best training error (%)", "seconds", "multiply-adds", "parameters"),
    *("published (%)", "Holm p", "p"),
)


def records(nets: Sequence[Replicates]) -> list[dict[str, Any]]:
    """Return a record of each of ``nets`` with a finished or diverged run.

    Errors are fractions after the last step of finished seeds: mean, standard deviation, and each. "best" is the lowest
    value recorded, which is biased on the test set. Training error is measured on the whole training set without
    augmentation. Multiply-adds are per image. "diverged" is the steps and the number of diverged seeds, in words. A net
    without a finished run has no errors.
    """
    published = [
        row | {"model": models.complete(row["model"])} for row in json.loads(PUBLISHED.read_text(encoding="utf-8"))
    ]
    return [record(net, published) for net in nets if net.finished or divergence(net)]


def record(net: Replicates, published: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the record of ``net``, with its error among ``published`` ones if there is one."""
    runs = net.finished
    summaries = [run.summary for run in (runs or net.runs) if run.summary]
    found: dict[str, Any] = {"net": net.label, "seeds": len(runs), "diverged": divergence(net)}
    for name, figure in FIGURES.items():
        errors = [figure(run) for run in runs]
        found[name] = float(np.mean(errors)) if errors else None
        found[f"{name} deviation"] = float(np.std(errors, ddof=1)) if len(errors) > 1 else None
        found[f"{name} of each seed"] = errors
    found["parameters"] = summaries[0]["parameters"]
    found["multiply-adds"] = summaries[0]["multiply_adds"]
    found["seconds"] = float(np.mean([summary["seconds"] for summary in summaries])) if runs else None
    return found | (published_error(runs[0], published) if runs else dict.fromkeys(("published test error", "source")))


def published_error(run: Run, published: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the published test error of the net of ``run``, a fraction, and its source; None if there is none."""
    read = models.fields_read(run.model)
    defaults = flatten(default().to_dict())
    is_changed = any(run.config[name] != defaults[name] for name in ("data.downsample", *INTERVENTION_FIELDS))

    def is_published(row: dict[str, Any]) -> bool:
        return row["data"] == run.config["data.name"] and all(row["model"][name] == run.model[name] for name in read)

    match = {} if is_changed else next(filter(is_published, published), {})
    return {"published test error": match.get("test_error"), "source": match.get("source")}


def csv_table(found: list[dict[str, Any]]) -> str:
    """Return ``found``, the result of ``records``, as comma-separated values; errors of seeds are set off by spaces."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(found[0]) if found else ["net"], lineterminator="\n")
    writer.writeheader()
    for each in found:
        seeds = {name: " ".join(map(str, value)) for name, value in each.items() if isinstance(value, list)}
        writer.writerow(each | seeds)
    return stream.getvalue()


def text_rows(found: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return ``found``, the result of ``records``, as rows of text, errors in per cent."""
    return [text_row(record) for record in found]


def text_row(record: dict[str, Any]) -> dict[str, str]:
    """Return ``record`` as a row of text, the most important columns first."""
    seeds, diverged = record["seeds"], record["diverged"]
    row = {"net": record["net"], "seeds": f"{seeds} ({diverged})" if seeds and diverged else f"{seeds}"}
    for name in FIGURES:
        row[f"{name} (%)"] = mean_and_seeds(record[f"{name} of each seed"]) if seeds else diverged
    row["parameters"] = f"{record['parameters']:,}"
    row["multiply-adds"] = f"{record['multiply-adds'] / 1e6:,.1f} M"
    row["seconds"] = "" if record["seconds"] is None else f"{record['seconds']:,.0f}"
    published = record["published test error"]
    row["published (%)"] = "" if published is None else f"{100 * published:.2f}"
    return row | {"source": record["source"] or ""}


def without_shared(rows: Sequence[dict[str, str]]) -> tuple[str, list[dict[str, str]]]:
    """Return a sentence on the columns in which all ``rows`` agree, and ``rows`` without them and without empty ones.

    Names of nets and errors stay columns. The sentence is empty if there is no such column.
    """
    names = [name for name in (rows[0] if rows else {}) if any(row[name] for row in rows)]
    shared = {
        name: rows[0][name]
        for name in names
        if len(rows) > 1 and name in SHARED and len({row[name] for row in rows}) == 1
    }
    words = ", ".join(f"{name} {value}" for name, value in shared.items())
    sentence = f"Shared by all nets: {words}." if shared else ""
    return sentence, [{name: row[name] for name in names if name not in shared} for row in rows]


def terminal_table(
    rows: Sequence[dict[str, str]], title: str = TITLE, width: int = 80, whole: str = "table.md"
) -> Table:
    """Return ``rows``, such as the result of ``text_rows``, for a terminal of ``width`` columns.

    What all rows share, and which columns are left out because they do not fit, is a caption. Names of nets, seeds and
    errors after the last step are never left out; the file ``whole`` has all columns.
    """
    shared, rows = without_shared(rows)
    columns = list(rows[0]) if rows else []
    widths = {name: max(map(len, [*header(name).split("\n"), *(row[name] for row in rows)])) for name in columns}
    left_out = []
    for name in LEAST_IMPORTANT:
        if name in columns and sum(widths[each] + GAP for each in columns) > width:
            columns.remove(name)
            left_out.append(name.removesuffix(" (%)"))
    caption = " ".join(filter(None, [shared, f"In {whole}: {', '.join(left_out)}." if left_out else ""]))
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.show_edge, table.pad_edge, table.caption_justify = False, False, "left"
    for name in columns:
        table.add_column(
            header(name),
            justify="left" if name == "net" else "right",
            overflow="fold",
            max_width=MOST_LETTERS if name == "seeds" else None,  # Leaves room for names and errors.
        )
    for row in rows:
        table.add_row(*(row[name] for name in columns))
    return table


def header(name: str) -> str:
    """Return the header of column ``name`` in lines."""
    return name.replace("-", "-\n").replace(" error", "\nerror")


def markdown_of_nets(rows: Sequence[dict[str, str]]) -> str:
    """Return ``rows``, the result of ``text_rows``, in Markdown: what all nets share as a sentence, then a table."""
    shared, rows = without_shared(rows)
    return "\n\n".join(filter(None, [markdown(shared), markdown_table(rows)]))


def markdown_table(rows: Sequence[dict[str, str]], left: Sequence[str] = ("net", "source")) -> str:
    """Return ``rows``, of text or Markdown, as a table in Markdown; the columns ``left`` are aligned there."""
    if not rows:
        return ""
    lines = [list(rows[0]), ["---" if name in left else "---:" for name in rows[0]]]
    lines += [[cell(each) for each in row.values()] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(text: str) -> str:
    """Return ``text``, which may be Markdown, as a cell of a table in Markdown."""
    return re.sub(r"(?<!\\)\|", r"\|", " ".join(markdown(text).split()))
