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
from resnet_jax.analysis.runs import Replicates, Run
from resnet_jax.config import default, flatten
from resnet_jax.escape import markdown
from resnet_jax.fields import INTERVENTION_FIELDS

PUBLISHED = pathlib.Path(__file__).with_name("published.json")
FIGURES = {
    "training error": lambda run: run.final("train_clean"),
    "best training error": lambda run: run.best("train_clean"),
    "test error": lambda run: run.final("test"),
    "best test error": lambda run: run.best("test"),
}


def records(nets: Sequence[Replicates]) -> list[dict[str, Any]]:
    """Return a record of each of ``nets`` with a finished run.

    Errors are fractions, as mean and standard deviation over finished seeds, after the last step. "best" is the lowest
    value recorded, which is biased on the test set. Training error is measured on the whole training set without
    augmentation. Multiply-adds are per image.
    """
    published = [
        row | {"model": models.complete(row["model"])} for row in json.loads(PUBLISHED.read_text(encoding="utf-8"))
    ]
    found = []
    for net in nets:
        runs = net.finished
        if not runs:
            continue
        summaries = [run.summary for run in runs if run.summary]
        record: dict[str, Any] = {
            "net": net.label,
            "seeds": len(runs),
            "parameters": summaries[0]["parameters"],
            "multiply-adds": summaries[0]["multiply_adds"],
        }
        for name, figure in FIGURES.items():
            errors = [figure(run) for run in runs]
            record[name] = float(np.mean(errors))
            record[f"{name} deviation"] = float(np.std(errors, ddof=1)) if len(errors) > 1 else None
        record["seconds"] = float(np.mean([summary["seconds"] for summary in summaries]))
        record |= published_error(runs[0], published)
        found.append(record)
    return found


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
    """Return ``found``, the result of ``records``, as comma-separated values."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(found[0]) if found else ["net"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return stream.getvalue()


def text_rows(found: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return ``found``, the result of ``records``, as rows of text, errors in per cent."""
    rows = []
    for record in found:
        row = {"net": record["net"], "seeds": f"{record['seeds']}"}
        row["parameters"] = f"{record['parameters']:,}"
        row["multiply-adds"] = f"{record['multiply-adds'] / 1e6:,.1f} M"
        row |= {f"{name} (%)": percent(record[name], record[f"{name} deviation"]) for name in FIGURES}
        row["seconds"] = f"{record['seconds']:,.0f}"
        published = record["published test error"]
        row["published (%)"] = "" if published is None else f"{100 * published:.2f}"
        row["source"] = record["source"] or ""
        rows.append(row)
    return rows


def percent(mean: float, deviation: float | None) -> str:
    """Return ``mean``, a fraction, in per cent, with its standard deviation if there is one."""
    return f"{100 * mean:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")


def terminal_table(
    rows: Sequence[dict[str, str]], title: str = "Errors after the last step, mean ± standard deviation over seeds"
) -> Table:
    """Return ``rows``, such as the result of ``text_rows``, for the terminal, without best errors and empty columns."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    columns = [name for name in rows[0] if not name.startswith("best") and name != "source"] if rows else []
    columns = [name for name in columns if any(row[name] for row in rows)]
    for name in columns:
        width = max(len(row[name]) for row in rows)
        table.add_column(name.replace("-", "-\n"), justify="left" if name == "net" else "right", min_width=width)
    for row in rows:
        table.add_row(*(row[name] for name in columns))
    return table


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
