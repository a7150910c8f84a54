"""Gaps, intervals and the words for them, against scipy and closed forms."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from scipy import stats

from resnet_jax.analysis.gap import claim, finding, gap, holm, mean_and_seeds


def errors(mean, deviation, seeds, seed=0):
    return np.random.default_rng(seed).normal(mean, deviation, seeds)


def test_the_difference_is_that_of_the_means_and_the_p_value_that_of_welch():
    deep, shallow = errors(0.13, 0.004, 5), errors(0.1, 0.002, 4, seed=1)
    result = gap(deep, shallow)
    assert result.difference == pytest.approx(deep.mean() - shallow.mean())
    assert result.seeds == 4
    variances = deep.var(ddof=1) / 5, shallow.var(ddof=1) / 4
    t = (deep.mean() - shallow.mean()) / np.sqrt(sum(variances))
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / 4 + variances[1] ** 2 / 3)
    assert result.p_value == pytest.approx(2 * stats.t.sf(abs(t), freedom))


def test_with_many_seeds_the_interval_is_that_of_the_normal_distribution():
    deep, shallow = errors(0.13, 0.01, 400), errors(0.1, 0.01, 400, seed=1)
    low, high = gap(deep, shallow).interval
    width = stats.norm.ppf(0.975) * np.sqrt(deep.var(ddof=1) / 400 + shallow.var(ddof=1) / 400)
    difference = deep.mean() - shallow.mean()
    np.testing.assert_allclose([low, high], [difference - width, difference + width], atol=0.02 * width)


def test_the_intervals_are_those_of_welch_by_hand():
    deep, shallow = np.array([0.36, 0.26, 0.40]), np.array([0.057, 0.058, 0.059])
    variances = deep.var(ddof=1) / 3, shallow.var(ddof=1) / 3
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / 2 + variances[1] ** 2 / 2)
    found = gap(deep, shallow)
    for interval, quantile in ((found.interval, 0.975), (found.narrow, 0.95)):
        width = stats.t.ppf(quantile, freedom) * np.sqrt(sum(variances))
        np.testing.assert_allclose(interval, [found.difference - width, found.difference + width])


def test_the_interval_is_cut_at_what_is_possible():
    low, high = gap([0.9, 0.1, 0.9], [0, 0, 0.5]).interval
    assert -1 < low < 0
    assert high == 1.0


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_or_two_seeds_are_not_judged_even_if_they_agree(seeds):
    result = gap(np.full(seeds, 0.5), np.full(seeds, 0.1))
    assert (result.interval, result.p_value, result.word) == (None, None, "not judged")
    assert gap(np.zeros(seeds), np.zeros(5)).word == "not judged"


def test_nets_without_scatter_are_not_judged_and_those_of_one_error_are_both_there():
    result = gap(np.full(3, 0.5), np.full(3, 0.25))
    assert (result.interval, result.p_value, result.word) == (None, None, "not judged")
    assert claim(result, result.word) == "not judged (+25.00 points, 3 seeds without scatter)"
    assert finding(result, result.word, ("56 layers", "20 layers")).endswith(
        "20 layers: 25.0, 25.0, 25.0 %; 56 layers: 50.0, 50.0, 50.0 %"
    )
    floor = gap(np.zeros(3), np.zeros(5))
    assert finding(floor, floor.word, ("", "")) == "both at 0 %, 3 seeds: nothing to compare"


@pytest.mark.parametrize(
    ("deep", "claimed"),
    [
        ((0.500, 0.501, 0.502), "degrades"),
        ((0.103, 0.104, 0.105), "degrades by less than 1 point"),
        ((0.100, 0.101, 0.103), "does not degrade"),
        ((0.050, 0.051, 0.052), "does not degrade"),
        ((0.090, 0.110, 0.130), "inconclusive"),
    ],
)
def test_the_word_follows_from_the_two_intervals(deep, claimed):
    found = gap(deep, (0.100, 0.101, 0.102))
    assert claim(found, found.word) == claimed
    assert (found.p_value < 0.05) == (found.interval[0] > 0 or found.interval[1] < 0)


@pytest.mark.parametrize(
    ("errors", "claimed"),
    [
        ((0.500, 0.501, 0.502), "higher"),
        ((0.050, 0.051, 0.052), "lower"),
        ((0.097, 0.098, 0.099), "lower by less than 1 point"),
        ((0.100, 0.101, 0.103), "alike within 1 point"),
        ((0.090, 0.110, 0.130), "inconclusive"),
    ],
)
def test_compared_with_a_reference_a_net_can_be_lower_too(errors, claimed):
    found = gap(errors, (0.100, 0.101, 0.102))
    assert claim(found, found.against_reference) == claimed


@hypothesis.given(*[st.lists(st.integers(0, 1250), min_size=3, max_size=6)] * 2)
def test_the_p_value_always_agrees_with_the_interval(one, other):
    found = gap([count / 1250 for count in one], [count / 1250 for count in other])
    if found.interval is not None:
        assert (found.p_value < 0.05) == (found.is_above or found.is_below)
        assert -1 <= found.interval[0] <= found.narrow[0] <= found.narrow[1] <= found.interval[1] <= 1


def test_holm_adjusts_as_in_the_example_that_is_worked_by_hand():
    assert holm([0.01, None, 0.04, 0.03, 0.005]) == [pytest.approx(0.03), None, 0.06, 0.06, pytest.approx(0.02)]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("errors", "text"),
    [
        ([0.5], "50.0"),
        ([0.0123], "1.23"),
        ([0.362, 0.4, 0.411], "39.1 (36.2, 40.0, 41.1)"),
        ([0.0, 0.0, 0.0006], "0.02 (0, 0, 0.06)"),
        ([0.0, 0.0], "0 (0, 0)"),
        ([0.0176, 0.134], "7.58 (1.76, 13.4)"),
        ([0.1, 0.2, 0.3, 0.4, 0.5], "30.0 (10.0, 20.0, 30.0, 40.0, 50.0)"),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "35.0 (10.0 to 60.0, 6 seeds)"),
    ],
)
def test_a_cell_has_the_mean_and_each_seed_or_the_range_of_many(errors, text):
    assert mean_and_seeds(errors) == text
