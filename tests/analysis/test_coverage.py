"""The record of coverage is what smaller simulations find, and docs/coverage.md is written from it."""

import pytest
from scipy import stats

from tests.analysis import coverage

RESULTS = coverage.read()


def assert_agree(found, recorded, simulated):
    """The percentages of so many ``simulated`` sweeps are likely if the recorded ones are true."""
    assert found.keys() == recorded.keys()
    for name in found:
        if name.endswith("(%)") and recorded[name] is not None:
            successes, probability = round(found[name] * simulated / 100), min(max(recorded[name] / 100, 0.002), 0.998)
            assert stats.binomtest(successes, simulated, probability).pvalue > 1e-4, (name, found[name])


@pytest.mark.parametrize("law", coverage.ERROR_LAWS)
@pytest.mark.parametrize("times", [1, 10])
def test_verdicts_are_right_as_often_as_recorded(law, times):
    found = coverage.verdict(law, times, seeds=3, sweeps=100)
    assert_agree(found, RESULTS["verdict"][law][coverage.name(3, times)], 100)


def test_with_normal_errors_interval_and_words_are_right_as_often_as_stated():
    for name, found in RESULTS["verdict"]["normal"].items():
        assert found["interval contains the gap (%)"] > 93, name
        assert found["false degrades (%)"] < 4, name
        assert found["false does not degrade (%)"] < 8, name


@pytest.mark.slow
@pytest.mark.parametrize("case", coverage.TUNED)
def test_intervals_of_tuned_nets_are_right_as_often_as_recorded(case):
    assert_agree(coverage.tuned(case, sweeps=200), RESULTS["tuned"][case], 200)


@pytest.mark.slow
@pytest.mark.parametrize("case", coverage.GROWTH)
def test_growth_with_depth_is_found_as_often_as_recorded(case):
    found, recorded = coverage.growths(case, sweeps=10), RESULTS["growth"][case]
    assert_agree(found, recorded, 10)
    assert found["mean estimate"] == pytest.approx(recorded["mean estimate"], abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("case", coverage.DECAY)
def test_the_law_of_decay_is_found_as_often_as_recorded(case):
    assert_agree(coverage.decays(case, curves=20), RESULTS["decay"][case], 20)


@pytest.mark.slow
def test_a_plateau_is_given_a_rate_as_seldom_as_recorded():
    assert_agree(coverage.plateaus(curves=50), RESULTS["plateau"], 50)


def test_the_page_has_the_tables_of_the_record():
    text = coverage.PAGE.read_text()
    assert coverage.page(text) == text
