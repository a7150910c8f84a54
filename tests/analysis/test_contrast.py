"""The rule by which a sentence on two nets is printed, by simulation and on cases that one can check by eye."""

import numpy as np
import pytest

from resnet_jax.analysis.contrast import Contrast, Statistic, contrast, says, sentence
from resnet_jax.analysis.diagnosed import Diagnosed


def of(one, other):
    return Contrast(("plain-56", "residual-56"), (list(one), list(other)))


def share_that_differs(draw, seeds, shift=0.0, trials=4_000):
    one, other = draw((trials, seeds)), draw((trials, seeds)) + shift
    return np.mean([of(a, b).differs for a, b in zip(one, other, strict=True)])


@pytest.mark.parametrize("law", ["normal", "cauchy", "lognormal"])
def test_nets_without_a_difference_seldom_differ_and_those_far_apart_mostly_do(law):
    random = np.random.default_rng(0)
    draw = {
        "normal": random.standard_normal,
        "cauchy": random.standard_cauchy,
        "lognormal": lambda shape: np.exp(2 * random.standard_normal(shape)),
    }[law]
    for seeds in (3, 4, 5, 10):
        assert share_that_differs(draw, seeds) < 0.0135  # 1 of 100, with the error of 4,000 trials.
    assert share_that_differs(random.standard_normal, seeds=5, shift=10) > 0.98


def test_nets_of_equal_means_differ_more_often_if_one_scatters_more():
    random = np.random.default_rng(0)
    for seeds in (3, 4, 5, 10):
        one, other = random.standard_normal((2, 4_000, seeds)) * [[[1]], [[10]]]
        share = np.mean([of(a, b).differs for a, b in zip(one, other, strict=True)])
        print(f"{seeds} seeds: {share:.1%}")
        assert share < 0.05


def test_ranges_must_be_apart_and_those_of_few_seeds_by_the_wider_of_the_two():
    assert of([0, 1, 2, 3, 4], [4.1, 5, 6, 7, 8]).differs
    assert not of([0, 1, 2, 3, 4], [4, 5, 6, 7, 8]).differs
    assert not of([0, 1, 2, 3], [3.1, 5, 6, 7]).differs
    assert of([0, 1, 2], [4, 4.5, 5]).differs
    assert not of([0, 1, 2], [3.9, 4.5, 5]).differs
    assert of([4, 4.5, 5], [0, 1, 2]).differs
    assert not of([0, 1], [10, 11]).differs  # Two seeds.
    assert not of([1, 1, 1], [1, 1, 1]).differs
    assert of([1, 1, 1], [2, 2, 2]).differs


def test_a_sentence_says_what_differs_or_that_nothing_does_or_what_is_missing():
    def said(one, other):
        return sentence(of(one, other), "It grows by {0} here and by {1} there", lambda value: f"{value:.1f}")

    assert said([1.0, 1.1, 1.2], [2, 2.1, 2.2]) == (
        "It grows by 1.1 here and by 2.1 there. Median and range over seeds: plain-56 1.1 (1.0 to 1.2), residual-56 "
        "2.1 (2.0 to 2.2)."
    )
    assert said([1, 2, 3], [2, 3, 4]).startswith("No difference beyond seeds: plain-56 2.0 (1.0 to 3.0), residual-56")
    assert said([1.0], [2.0]) == (
        "1 seed, three are needed to tell a difference from chance: plain-56 1.0, residual-56 2.0."
    )
    assert said([], [1.0, 2, 3]) == "Not measured of plain-56."


def test_seeds_without_a_number_are_left_out():
    nets = [[Diagnosed(name, False, 20, name, None, [])] * 3 for name in ("a", "b")]
    values = iter([1.0, None, float("nan"), 2.0, 3.0, 4.0])
    assert contrast(tuple(nets), lambda _: next(values)).values == ([1.0], [2.0, 3.0, 4.0])


def test_without_twins_and_anything_measured_no_quantity_is_named():
    statistic = Statistic("Training loss at the end", lambda net: None, "", str)
    assert says({}, None, statistic) == "There are no twins to compare."
