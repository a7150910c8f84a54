"""Does what was found agree with the literature?

A sweep file may say what others have found of its series, as ``LITERATURE``: a dictionary from the name of a series, as
the verdict has it, to ``"degrades"`` or ``"does not degrade"`` and the source::

    LITERATURE = {"plain": ("degrades", "He et al. 2015, figure 6")}
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from resnet_jax.analysis.verdict import WORDS, SeriesVerdict, Verdict
from resnet_jax.errors import UserError

CLAIMS = (WORDS[1], WORDS[-1])


class Comparison(NamedTuple):
    """What was found of a series beside what others have.

    Attributes:
      result: "agrees", "contradicts", or "open" where the verdict is inconclusive.
      sentence: says so.
    """

    result: str
    sentence: str


def check(literature: Any, file: str) -> dict[str, list[str]]:
    """Return ``LITERATURE`` of the sweep ``file`` as it is recorded; raise a UserError unless it is as above."""
    checked = {}
    for series, claim in literature.items() if isinstance(literature, Mapping) else [(None, literature)]:
        is_pair = isinstance(claim, (tuple, list)) and len(claim) == 2
        if not isinstance(series, str) or not is_pair or claim[0] not in CLAIMS or not isinstance(claim[1], str):
            raise UserError(
                f"LITERATURE of {file} has {series!r}: {claim!r}; expected the name of a series with "
                f'("{CLAIMS[0]}" or "{CLAIMS[1]}", SOURCE).'
            )
        checked[series] = list(claim)
    return checked


def compare(claims: Mapping[str, list[str]], verdicts: Mapping[str, Verdict]) -> list[Comparison]:
    """Return what was found beside each of ``claims``.

    Args:
      claims: by series, the verdict of others and its source.
      verdicts: by a clause that is appended to their sentences, as of ``tuning.verdicts``.
    """
    return [
        comparison(series, where, *claims[series.series])
        for where, verdict in verdicts.items()
        for series in verdict.series
        if series.series in claims
    ]


def comparison(series: SeriesVerdict, where: str, claim: str, source: str) -> Comparison:
    """Return the verdict on ``series`` beside ``claim``."""
    found = WORDS[series.whole.sign]
    name = f"{series.series} {where}".rstrip()
    if found == claim:
        return Comparison("agrees", f"As in the literature: {name} {found} ({source}).")
    if found == WORDS[0]:
        return Comparison("open", f"Open: {name} is {found} here; it {claim} in {source}.")
    there = "but not" if claim == WORDS[-1] else "but it does"
    return Comparison("contradicts", f"Contradicts the literature: {name} {found} here, {there} in {source}.")
