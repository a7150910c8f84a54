"""The gallery: question, answer, figure and verdict of every published study, on one page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from resnet_jax.escape import Markdown, markdown, prose
from resnet_jax.report.study import GAPS, bullets, emphasised, verdict_table
from resnet_jax.report.tables import markdown_table

# An entry has at most so many lines of verdict; a study with a tuned field has a table instead.
MOST_LINES = 4
CONTENTS = ("study", "question", "compared with the literature")


def page(studies: Mapping[str, dict[str, Any]], reports: Sequence[str], command: str) -> str:
    """Return the gallery in Markdown.

    Args:
      studies: the content of ``found.json`` by the name of the folder; those without an answer are only listed.
      reports: folders with a ``why.md``, on nets that no study trained.
      command: makes the gallery.
    """
    answered = {name: study for name, study in studies.items() if study["answer"]}
    others = [name for name in studies if name not in answered]
    parts = [
        "# Results",
        "Each study has a question, an answer, the figure that shows it, and the verdict; a click on the figure opens "
        f"its page with everything else. {GAPS} Results that contradict the literature are in bold. `{command}` makes "
        "this page from the records.",
        markdown_table([contents_row(name, study) for name, study in answered.items()], left=CONTENTS).rstrip(),
        *(part for name, study in answered.items() for part in entry(name, study)),
    ]
    if others or reports:
        links = [f"{link(name, 'README.md')}, {question_of(studies[name])}" for name in others]
        links += [f"{link(name, 'why.md')}, what third-party weights look like inside" for name in reports]
        parts += ["## Further records", bullets(map(Markdown, links))]
    return "\n\n".join(filter(None, parts)) + "\n"


def contents_row(name: str, study: dict[str, Any]) -> dict[str, str]:
    """Return the line of ``study`` in the table of contents."""
    results = {each["result"] for each in study["literature"]}
    compared = ", ".join(f"**{each}**" if each == "contradicts" else each for each in sorted(results))
    cells = (Markdown(f"[{markdown(name)}](#{quote(name)})"), question_of(study), Markdown(compared))
    return dict(zip(CONTENTS, cells, strict=True))


def entry(name: str, study: dict[str, Any]) -> Iterator[str]:
    """Yield the parts of the section on ``study``."""
    yield f"## {markdown(name)}"
    yield f"**{question_of(study)}**"
    yield prose(study["answer"])
    yield picture(name, study["figure"], markdown(name))
    contradicting = [emphasised(each) for each in study["literature"] if each["result"] == "contradicts"]
    if any(each["where"] for each in study["verdicts"]):
        yield verdict_table(study["verdicts"])
        yield bullets(contradicting)
    else:
        brief = [f"{each['nets']}: {each['brief']}" for each in study["verdicts"]]
        lines = [*contradicting, *map(markdown, brief or study["verdict"])]
        more = len(lines) - MOST_LINES + 1
        if more > 1:
            rest = Markdown(f"{more} more on {link(name, 'README.md', 'its page')}")
            lines = [*lines[: MOST_LINES - 1], rest]
        yield bullets(lines)


def question_of(study: dict[str, Any]) -> Markdown:
    """Return the question of ``study`` as one line."""
    return prose(" ".join(study["question"].split()))


def link(folder: str, page: str, text: str = "") -> str:
    """Return a link to ``page`` of the study in ``folder``, by default with the name of the folder as ``text``."""
    return f"[{markdown(text or folder)}]({quote(folder)}/{page})"


def picture(folder: str, figure: str, title: Markdown) -> str:
    """Return ``figure`` of the study in ``folder``, with a link to its page."""
    return f"[![{title}]({quote(folder)}/{quote(figure, safe='')}.png)]({quote(folder)}/README.md)"
