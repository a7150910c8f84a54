"""The gallery: what all published studies found, on one page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from resnet_jax.analysis.study import bullets, emphasised
from resnet_jax.analysis.tables import markdown_table

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
        links = [f"[{name}]({name}/README.md), {studies[name]['question']}" for name in others]
        links += [f"[{name}]({name}/why.md), what weights that others trained look like inside" for name in reports]
        parts += ["## Further records", bullets(links)]
    return "\n\n".join(filter(None, parts)) + "\n"


def contents_row(name: str, study: dict[str, Any]) -> dict[str, str]:
    """Return the line of ``study`` in the table of contents."""
    results = {each["result"] for each in study["literature"]}
    beside = "**contradicts**" if "contradicts" in results else "agrees" if "agrees" in results else "".join(results)
    return dict(zip(CONTENTS, (f"[{name}](#{name})", study["question"], beside), strict=True))


def entry(name: str, study: dict[str, Any]) -> Iterator[str]:
    """Yield the parts of the section on ``study``."""
    yield f"## {name}"
    yield f"**{study['question']}**"
    yield study["answer"]
    yield f"[![{study['question']}]({name}/{study['figure']}.png)]({name}/README.md)"
    sentences = [*study["verdict"], *study["left_out"]]
    compared = [emphasised(each) for each in study["literature"]]
    if len(sentences) > SHOWN_SENTENCES:
        yield folded(f"Verdict, in {len(sentences)} sentences", sentences)
        yield bullets(compared)
    else:
        yield bullets([*sentences, *compared])
    if study["inside"]:
        yield folded("Inside the nets", [each["says"] for each in study["inside"]])
    yield f"{study['run']} [Page, records and figures]({name}/README.md)."
    yield "```sh\n" + "\n".join(study["commands"]) + "\n```"


def folded(title: str, texts: list[str]) -> str:
    """Return ``texts`` as a list that opens at a click on ``title``."""
    return f"<details><summary>{title}</summary>\n\n{bullets(texts)}\n\n</details>"
