"""The gallery: what all published studies found, on one page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from resnet_jax.escape import Markdown, fenced, markdown, prose
from resnet_jax.report.study import bullets, emphasised
from resnet_jax.report.tables import markdown_table

# More sentences than these are folded away.
SHOWN_SENTENCES = 4
CONTENTS = ("study", "question", "beside the literature")


def page(studies: Mapping[str, dict[str, Any]], reports: Sequence[str], command: str) -> str:
    """Return the gallery in Markdown.

    Args:
      studies: the content of ``found.json`` by the name of the folder; those without an answer are only listed.
      reports: folders with a ``why.md``, of nets that no study trained.
      command: that makes the gallery.
    """
    answered = {name: study for name, study in studies.items() if study["answer"]}
    others = [name for name in studies if name not in answered]
    parts = [
        "# Results",
        "Each study has a question, an answer, the figure that shows it, and the verdict with its interval; its page "
        "has everything else, and the records beside it regenerate the page. What contradicts the literature is marked "
        f"in bold. This page is made from the records by `{command}`.",
        markdown_table([contents_row(name, study) for name, study in answered.items()], left=CONTENTS).rstrip(),
        *(part for name, study in answered.items() for part in entry(name, study)),
    ]
    if others or reports:
        links = [f"{link(name, 'README.md')}, {question_of(studies[name])}" for name in others]
        links += [f"{link(name, 'why.md')}, what weights that others trained look like inside" for name in reports]
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
    yield picture(name, study["figure"], question_of(study))
    sentences = [*study["verdict"], *study["left_out"]]
    compared = [emphasised(each) for each in study["literature"]]
    if len(sentences) > SHOWN_SENTENCES:
        yield folded(f"Verdict, in {len(sentences)} sentences", sentences)
        yield bullets(compared)
    else:
        yield bullets([*sentences, *compared])
    if study["inside"]:
        yield folded("Inside the nets", [each["says"] for each in study["inside"]])
    yield f"{markdown(study['run'])} [Page, records and figures]({quote(name)}/README.md)."
    yield fenced("\n".join(study["commands"]))


def question_of(study: dict[str, Any]) -> Markdown:
    """Return the question of ``study`` as one line."""
    return prose(" ".join(study["question"].split()))


def link(folder: str, page: str) -> str:
    """Return a link to ``page`` of the study in ``folder``."""
    return f"[{markdown(folder)}]({quote(folder)}/{page})"


def picture(folder: str, figure: str, title: Markdown) -> str:
    """Return ``figure`` of the study in ``folder``, with a link to its page."""
    return f"[![{title}]({quote(folder)}/{quote(figure, safe='')}.png)]({quote(folder)}/README.md)"


def folded(title: str, texts: list[str]) -> str:
    """Return ``texts`` as a list that opens at a click on ``title``."""
    return f"<details><summary>{title}</summary>\n\n{bullets(texts)}\n\n</details>"
