"""Write the gallery of all published studies, and the table of what was reproduced.

    python -m experiments.gallery

Reads what experiments.publish has left in the folders of results/ and writes results/README.md: of each study the
question, its figure, the verdict, when, on what and by which command. In README.md of the project it writes, between
two marks, the verdict with its picture, published values beside those of the records, and a picture of why.

Exit status: 0 done, 2 there is nothing to show or the command needs fixing.
"""

import pathlib
from typing import Any

from experiments import command
from resnet_jax.errors import UserError
from resnet_jax.escape import Markdown, markdown, prose
from resnet_jax.report import gallery
from resnet_jax.report.reproduced import reproduced, reproduced_table
from resnet_jax.safe_files import read_json, write_text
from resnet_jax.schema import Maybe

COMMAND = "python -m experiments.gallery"
BEGIN, END = f"<!-- written by {COMMAND} from results/ -->", "<!-- end of results -->"
FOUND = {
    "question": str,
    "run": str,
    "commands": [str],
    "answer": str,
    "verdict": [str],
    "verdicts": Maybe([{"nets": str, "where": str, "brief": str}]),  # From version 2 up.
    "literature": [{"result": str, "sentence": str}],
    "left_out": [str],
    "figure": str,
    "inside": [{"figure": str, "says": str}],
}
# The study whose figure, verdict and gradients are on the front page.
FRONT = "cifar_seeds"


def found(folder: pathlib.Path) -> dict[str, Any]:
    """Return the content of found.json in ``folder``, of any version; raise a UserError if there is none."""
    content = read_json(folder / "found.json", FOUND)
    if content is None:
        raise UserError(f"{folder} has no found.json; publish it: python -m experiments.publish {folder}.")
    return {"verdicts": []} | content


def front(results: pathlib.Path) -> str:
    """Return the section of the front page that is made from the records in ``results``."""
    shown = found(results / FRONT)
    panel = next(panel for panel in shown["inside"] if panel["figure"] == "why_gradients")
    question, says = gallery.question_of(shown), markdown(panel["says"])
    parts = [
        f"**{question}** {prose(' '.join(shown['answer'].split()))}",
        gallery.picture(f"{results.name}/{FRONT}", shown["figure"], question),
        "\n>\n".join(f"> {markdown(sentence)}" for sentence in shown["verdict"]),
        reproduced_table(reproduced(results), results.name).rstrip(),
        f"**Why? What differs inside the nets:** {says[0].lower()}{says[1:]}",
        gallery.picture(f"{results.name}/{FRONT}", panel["figure"], Markdown("Norms of gradients over blocks")),
    ]
    return "\n\n".join(parts)


def replaced(text: str, section: str, file: pathlib.Path) -> str:
    """Return ``text``, of ``file``, with ``section`` between the marks; raise a UserError if they are not there."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{file} has no section between {BEGIN} and {END}; add these two lines where it belongs.")
    return f"{before}{begin}\n\n{section}\n\n{end}{after}"


def main(arguments: list[str]) -> int:
    """Write the gallery; return the exit status."""
    command.refuse_arguments(arguments)
    results, readme = pathlib.Path("results"), pathlib.Path("README.md")
    folders = sorted(
        (file.parent for file in results.glob("*/found.json")), key=lambda each: (each.name != FRONT, each)
    )
    studies = {folder.name: found(folder) for folder in folders}
    if not studies:
        raise UserError(f"{results} has no published study; run this in the project's folder, or publish one first.")
    reports = sorted(file.parent.name for file in results.glob("*/why.md"))
    section = replaced(readme.read_text(encoding="utf-8"), front(results), readme)
    write_text(results / "README.md", gallery.page(studies, reports, COMMAND))
    write_text(readme, section)
    print(f"The gallery: {results / 'README.md'}; its section in {readme}.")
    return 0


if __name__ == "__main__":
    command.run(main)
