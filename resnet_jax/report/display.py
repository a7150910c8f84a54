"""How figures and tables show nets: in which order, in which words, and next to the error of guessing."""

import re
from collections.abc import Iterable

from resnet_jax import identity
from resnet_jax.analysis.runs import Replicates, Run
from resnet_jax.errors import UserError

# Parts of the names of series, and the words for them in figures.
WORDS = (
    (r"norm none", "no norm"),
    (r"norm (\w+)", r"\1 norm"),
    (r"reserve True", "with reserve"),
    (r"reserve False", "without reserve"),
    (r"frozen_below (\w+?)(\d+)/([a-z]+)(\d+)", r"frozen below \1 \2, \3 \4"),
    (r"(route|shortcut) ([a-z]\w*)", r"\1: \2"),
    (r"final \[0(?:\.0)?(?:, 1(?:\.0)?){3}\]", "shortcuts fade out"),
    (r"phase \[(\S+), (\S+)\]", r"between \1 and \2 of the steps"),
)
# Classes of data sets; runs of earlier versions have recorded only the name of theirs.
CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100, "imagenet2012": 1000}
KINDS = ("plain", "residual")


def in_words(name: str) -> str:
    """Return ``name``, of a net or a series, in words: "residual, norm none" becomes "residual, no norm"."""
    kind, *parts = re.split(r", (?![^\[]*\])", name)
    return ", ".join([kind, *map(part_in_words, parts)])


def part_in_words(part: str) -> str:
    """Return ``part``, a field and its value in the name of a series, in words."""
    if part.startswith("from "):  # The name of a run stays as it is.
        return part
    for pattern, words in WORDS:
        if match := re.fullmatch(pattern, part):
            return match.expand(words).replace("_", " ")
    return part.replace("_", " ")


def in_order(nets: Iterable[Replicates], reference: str | None = None) -> list[Replicates]:
    """Return ``nets``, first the series ``reference``, then plain and residual nets, then the others."""

    def place(net: Replicates) -> tuple[bool, bool, str, int]:
        kind, _, _ = net.series.partition(",")
        return net.series != reference, kind not in KINDS, net.series, net.depth

    return sorted(nets, key=place)


def divergence(net: Replicates) -> str:
    """Return at which steps runs of ``net`` diverged, as "diverged at step 3 to 8"; empty if none has."""
    steps = sorted({run.summary["steps"] for run in net.runs if run.diverged and run.summary})
    if not steps:
        return ""
    some = f"{sum(run.diverged for run in net.runs)} of {len(net.runs)} " if net.finished else ""
    return f"{some}diverged at step {' to '.join(f'{step:,}' for step in dict.fromkeys((steps[0], steps[-1])))}"


def error_of_guessing(nets: Iterable[Replicates]) -> float | None:
    """Return the error of guessing among equally frequent classes, a fraction.

    None if the number of classes is not known, or not the same for all ``nets``.
    """
    counts = {classes_of(net.runs[0]) for net in nets}
    return chance(counts.pop()) if len(counts) == 1 else None


def chance(classes: int | None) -> float | None:
    """Return the error of guessing among ``classes``, a fraction; None for None."""
    return None if classes is None else 1 - 1 / classes


def classes_of(run: Run) -> int | None:
    """Return the number of classes of the data of ``run``, None if it is not known."""
    try:
        recorded = identity.read(run.folder)
    except UserError:  # A damaged record of the data does not keep the errors from being drawn.
        recorded = None
    return len(recorded.data["class_names"]) if recorded else CLASSES.get(run.config["data.name"])
