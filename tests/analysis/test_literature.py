"""Verdicts compared with the literature: agreement, contradiction, or neither."""

import numpy as np

from resnet_jax.analysis import literature
from resnet_jax.analysis.gap import gap
from resnet_jax.analysis.verdict import SeriesVerdict, Verdict

HE = "He et al. 2015, figure 6"
CLAIMS = {"plain": ["degrades", HE], "residual": ["does not degrade", HE]}


def verdict(**errors):
    """Return the verdict on series with the training ``errors`` of seeds, shallow and deep."""
    gaps = {series: gap(np.array(deep), np.array(shallow)) for series, (shallow, deep) in errors.items()}
    return Verdict([SeriesVerdict(series, [20, 56], [each], each, each) for series, each in gaps.items()], [])


LOW, HIGH, WIDE = (0.1, 0.11, 0.12), (0.5, 0.51, 0.52), (0.05, 0.11, 0.2)


def test_a_verdict_as_claimed_agrees():
    found = literature.compare(CLAIMS, {"": verdict(plain=(LOW, HIGH), residual=(HIGH, LOW))})
    assert [each.result for each in found] == ["agrees", "agrees"]
    assert found[0].sentence == f"As in the literature: plain degrades ({HE})."
    assert found[1].sentence == f"As in the literature: residual does not degrade ({HE})."


def test_the_opposite_verdict_contradicts():
    found = literature.compare(CLAIMS, {"": verdict(plain=(HIGH, LOW), residual=(LOW, HIGH))})
    assert [each.result for each in found] == ["contradicts", "contradicts"]
    assert found[0].sentence == f"Contradicts the literature: plain does not degrade here, but it does in {HE}."
    assert found[1].sentence == f"Contradicts the literature: residual degrades here, but not in {HE}."


def test_an_inconclusive_verdict_is_open():
    (found,) = literature.compare(CLAIMS, {"": verdict(residual=(LOW, WIDE))})
    assert found.result == "open"
    assert found.sentence == f"Open: residual is inconclusive here; it does not degrade in {HE}."


def test_of_a_tuned_field_each_verdict_is_compared_and_named():
    verdicts = {
        "at the common rate 0.1": verdict(residual=(LOW, HIGH)),
        "at its own best rate": verdict(residual=(HIGH, LOW)),
    }
    found = literature.compare(CLAIMS, verdicts)
    assert [each.result for each in found] == ["contradicts", "agrees"]
    assert "residual at the common rate 0.1 degrades here" in found[0].sentence
    assert "residual at its own best rate does not degrade" in found[1].sentence


def test_series_without_a_claim_and_claims_without_a_series_are_left_out():
    assert literature.compare(CLAIMS, {"": verdict(**{"preact residual": (LOW, HIGH)})}) == []
