"""Does what was found agree with the literature, as ``resnet_jax.sweeps.claims`` of a sweep have it?"""

from collections.abc import Mapping
from typing import NamedTuple

from resnet_jax.analysis.gap import EQUAL, INCONCLUSIVE, NOT_JUDGED, claim
from resnet_jax.analysis.verdict import SeriesVerdict, Verdict
from resnet_jax.sweeps.claims import DOES_NOT_DEGRADE


class Comparison(NamedTuple):
    """Verdict on a series, compared with the literature.

    Attributes:
      result: "agrees", "contradicts", or "open" where the verdict is neither.
      sentence: says so.
    """

    result: str
    sentence: str


def compare(claims: Mapping[str, list[str]], verdicts: Mapping[str, Verdict]) -> list[Comparison]:
    """Return the comparison of ``verdicts`` with each of ``claims``.

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


def comparison(series: SeriesVerdict, where: str, claimed: str, source: str) -> Comparison:
    """Return the verdict on ``series`` compared with the word ``claimed`` in ``source``."""
    word, said = series.whole.word, claim(series.whole, series.whole.word)
    name = f"{series.series} {where}".rstrip()
    if word in (NOT_JUDGED, INCONCLUSIVE, EQUAL):
        return Comparison("open", f"Open: {name} is {said} here; it {claimed} in {source}.")
    if word == claimed:
        return Comparison("agrees", f"As in the literature: {name} {said} ({source}).")
    there = "but not" if claimed == DOES_NOT_DEGRADE else "but it does"
    return Comparison("contradicts", f"Contradicts the literature: {name} {said} here, {there} in {source}.")
