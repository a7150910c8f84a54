"""The page of a study in Markdown: its question, what was run, what was found, and what that does not show."""

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from resnet_jax import archive
from resnet_jax.analysis.runs import Run, group_depths
from resnet_jax.escape import Markdown, fenced, markdown, prose
from resnet_jax.report import why, why_page
from resnet_jax.report.display import in_words
from resnet_jax.report.findings import Findings
from resnet_jax.report.html_page import Section
from resnet_jax.report.tables import markdown_of_nets, markdown_table

# Captions of the figures that a page shows.
CAPTIONS = {
    "nets": "Final errors, a dot for each seed and a bar at the mean; between depths, the gap with its 95 % interval",
    "depths": "Final errors over depth, a dot for each seed and lines through the means",
    "curves": "Training error of mini-batches (thin) and test error (bold) over steps, mean and range over seeds",
    "rates": "Steps until the training loss stays below a threshold, over depth; open triangles: not reached",
}
GAPS = "Gaps in training error, deeper minus shallower or plain minus residual, in points, with their 95 % intervals."
# A page folds away more sentences on a verdict than these, below a table.
MOST_SENTENCES = 4
# Changed files that a page names.
MOST_FILES = 5


def summary(
    sweep: dict[str, Any],
    runs: Sequence[Run],
    found: Findings,
    problems: Sequence[str],
    command: str,
    answer: str = "",
    inside: why.Page | None = None,
) -> dict[str, Any]:
    """Return the summary of a study that the gallery shows, the content of ``found.json``.

    Args:
      sweep: the content of ``sweep.json``. The first paragraph of its question is the heading, the others the protocol.
      runs: all that were read.
      found: the findings in them.
      problems: sentences on runs that could not be read or did not start.
      command: makes page and summary again from the records next to them.
      answer: answer to the question, in the words of whoever asked it.
      inside: what the nets look like inside.
    """
    question, _, _ = sweep["question"].partition("\n\n")
    judged = found.judged
    return {
        "version": 2,
        "question": " ".join(question.split()),
        "run": what_was_run(runs, len(sweep["runs"])),
        "commands": [shlex.join(sweep["command"]), command],
        "answer": answer.strip(),
        "verdict": judged.verdict,
        "verdicts": [
            {"nets": in_words(each.name), "where": each.where, "brief": each.brief} for each in judged.statements
        ],
        "literature": [comparison._asdict() for comparison in judged.literature],
        "left_out": [*judged.left_out, *problems],
        "figure": chief_figure(found),
        "inside": [{"figure": panel.name, "says": panel.says} for panel in inside.panels] if inside else [],
    }


def page(
    sweep: dict[str, Any],
    study: dict[str, Any],
    found: Findings,
    rows: list[dict[str, str]],
    inside: why.Page | None = None,
) -> str:
    """Return the page: question, answer, chief figure and verdict, then what was run, then everything else.

    Args:
      sweep: as of ``summary``.
      study: the result of ``summary``.
      found: as there.
      rows: the table of nets, the result of ``tables.text_rows``.
      inside: as there.
    """
    _, *protocol = sweep["question"].split("\n\n")
    panels = f"## {why_page.TITLE}\n\n{why_page.markdown(inside)}" if inside else ""
    sections = [section for section in found.sections if section.rows or section.texts]
    train, publish = study["commands"]
    compared = [emphasised(each) for each in study["literature"]]
    sentences = [*study["verdict"], *compared, *study["left_out"], *found.not_drawn]
    chief = study["figure"]
    parts = [
        f"# {prose(study['question'])}",
        prose(study["answer"]),
        figure(chief),
        "## Verdict",
        *long_verdict(study, sentences),
        "## What was run",
        *map(prose, protocol),
        markdown(study["run"]),
        fenced(f"{train}\n{publish}    # this page, from {archive.FILE} next to it"),
        "## Figures and tables",
        *(figure(name) for name in found.figures if name != chief),
        *(part for section in sections for part in section_parts(section)),
        "### All nets",
        "Errors in per cent after the last step, mean and each seed; training error on the whole training set without "
        "augmentation. Published errors are from the sources' own, usually longer, training.",
        markdown_of_nets(brief_rows(rows)).rstrip(),
        panels.rstrip(),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def figure(name: str) -> str:
    """Return the figure ``name`` with its caption."""
    return f"![{CAPTIONS[name]}]({name}.png)\n\n{CAPTIONS[name]}."


def long_verdict(study: dict[str, Any], sentences: Sequence[str]) -> list[str]:
    """Return ``sentences`` as a list, and of many first a table of the verdicts of ``study``."""
    if len(sentences) <= MOST_SENTENCES:
        return [bullets(sentences)]
    title = f"<details><summary>All {len(sentences)} sentences, with each seed's error</summary>"
    return [GAPS, verdict_table(study["verdicts"]), f"{title}\n\n{bullets(sentences)}\n\n</details>"]


def verdict_table(verdicts: Sequence[dict[str, str]]) -> str:
    """Return a table of ``verdicts``: a row for each pair of nets, a column for each value of a tuned field."""
    columns = {each["where"]: markdown(each["where"] or "verdict") for each in verdicts}
    rows: dict[str, dict[str, str]] = {}
    for each in verdicts:
        row = rows.setdefault(each["nets"], {"nets": each["nets"]} | dict.fromkeys(columns.values(), ""))
        row[columns[each["where"]]] = each["brief"]
    return markdown_table(list(rows.values()), left=["nets", *columns.values()]).rstrip()


def section_parts(section: Section) -> list[str]:
    """Return heading, sentences and table of ``section``; its figure is one of the page's own."""
    table = markdown_table(list(section.rows)).rstrip()
    return [f"### {markdown(section.title)}", bullets(section.texts), table]


def emphasised(comparison: dict[str, Any]) -> Markdown:
    """Return ``comparison``, a ``literature.Comparison`` as a dictionary, in words; in bold if it contradicts."""
    sentence = markdown(comparison["sentence"])
    return Markdown(f"**{sentence}**") if comparison["result"] == "contradicts" else sentence


def chief_figure(found: Findings) -> str:
    """Return the name of the figure that shows best what was found."""
    names = found.figures
    if "rates" in names:
        return "rates"
    if "depths" in names:
        return "depths"
    series = group_depths(found.judged.nets)
    over_depth = all(len(nets) > 1 for nets in series.values())
    return "curves" if over_depth and len(series) <= 3 else "nets"


def what_was_run(runs: Sequence[Run], planned: int) -> str:
    """Return in words: the runs of ``planned`` that finished, dates, devices, versions and hours of training."""
    starts = [start for run in runs for start in run.environments]
    dates = sorted({start["time"][:10] for start in starts})
    devices = sorted({f"{start['device_count']} x {start['device_kind']}" for start in starts})
    versions = sorted({f"JAX {start['packages'].get('jax')}" for start in starts})
    finished = [run for run in runs if run.finished]
    hours = sum(run.summary["seconds"] for run in finished if run.summary) / 3600
    said = f"{len(finished)} of {planned} runs finished"
    if starts:
        said += f", {' to '.join(dict.fromkeys((dates[0], dates[-1])))}, each on {' or '.join(devices)} with "
        said += ", ".join(versions)
    return f"{said}; {hours:.1f} hours of training in all.{mixture(runs)}"


def mixture(runs: Sequence[Run]) -> str:
    """Return sentences on what ``runs`` do not share although it moves results: code, numeric type, kind of device."""
    starts = [start for run in runs for start in run.environments]
    revisions = sorted({(start.get("git_revision") or "unknown")[:7] for start in starts})
    said = f" Trained by {'' if len(revisions) > 1 else 'revision '}{', '.join(revisions)}" * bool(revisions)
    said += f": {len(revisions)} revisions of the code" * (len(revisions) > 1)
    dirty = [start for start in starts if start.get("git_dirty")]
    if dirty:
        names = sorted(
            {name for start in dirty for name in start.get("git_changed") or ["files that were not recorded"]}
        )
        shown = [*names[:MOST_FILES], *[f"{len(names) - MOST_FILES} more files"] * (len(names) > MOST_FILES)]
        said += f", {len(dirty)} of {len(starts)} starts with local changes in {', '.join(shown)}"
    said += "." * bool(revisions)
    kinds = sorted({" and ".join(run.devices) for run in runs if run.devices})
    types = sorted({run.config["dtype"] for run in runs})
    forms = sorted({start.get("convolutions", "lax") for start in starts})
    mixed = (("kinds of device", kinds), ("numeric types", types), ("forms of convolutions on CPUs", forms))
    for name, values in mixed:
        if len(values) > 1:
            said += f" Runs are of different {name}, {', '.join(values)}, which round differently."
    return said


def bullets(texts: Iterable[str]) -> str:
    """Return ``texts``, of text or Markdown, as a list."""
    return "\n".join(f"- {markdown(text)}" for text in texts)


def brief_rows(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return ``rows`` without best errors and times."""
    return [
        {name: text for name, text in row.items() if not name.startswith("best") and name != "seconds"} for row in rows
    ]
