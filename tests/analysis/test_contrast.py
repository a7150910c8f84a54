"""The rule by which a sentence on two nets is printed, by simulation and on cases that one can check by eye."""

import numpy as np
import pytest

from resnet_jax.analysis.contrast import Contrast, Statistic, contrast, deepest_twins, says, sentence
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


@pytest.mark.parametrize(
    ("one", "other", "medians"),
    [([1, 2, 9], [4, 5], (2, 4.5)), ([3], [0.5, 0.25, 0.125, 1], (3, 0.375))],
)
def test_medians_are_those_of_each_net(one, other, medians):
    assert of(one, other).medians == medians == (np.median(one), np.median(other))


def test_the_fewer_seeds_of_the_two_nets_decide_how_far_ranges_must_be_apart():
    many, few = [0, 1, 2, 3, 4, 5], [6, 7, 8]
    assert not of(many, few).differs  # Apart by 1, and the wider range is 5.
    assert of(many, [*few, 9, 10]).differs
    assert not of(many, [6]).differs
    assert not of(many, []).differs


def net(residual, depth, label="", seed=0):
    kind = "residual" if residual else "plain"
    return Diagnosed(label or f"{kind}-{depth}", residual, depth, f"{kind}-{depth}-{seed}", None, [])


def groups_of(*nets):
    found = {}
    for each in nets:
        found.setdefault(each.label, []).append(each)
    return found


def test_twins_are_the_plain_and_the_residual_net_of_the_greatest_depth_that_both_have():
    groups = groups_of(*[net(residual, depth) for residual in (False, True) for depth in (20, 56)], net(False, 110))
    assert [seeds[0].label for seeds in deepest_twins(groups)] == ["plain-56", "residual-56"]


def test_the_twin_is_the_first_residual_net_of_its_depth():
    groups = groups_of(net(False, 56), net(True, 56), net(True, 56, "residual-56, route stop_gradient"))
    assert deepest_twins(groups)[1][0].label == "residual-56"


def test_a_plain_net_that_does_not_work_has_no_twin_but_a_shallower_one_may():
    groups = groups_of(*[net(residual, depth) for residual in (False, True) for depth in (20, 56)])
    found = deepest_twins(groups, lambda seeds: seeds[0].depth < 56)
    assert [seeds[0].label for seeds in found] == ["plain-20", "residual-20"]
    assert deepest_twins(groups, lambda seeds: False) is None


@pytest.mark.parametrize("nets", [[], [(False, 20)], [(True, 20)], [(False, 20), (True, 56)]])
def test_there_are_no_twins_without_both_kinds_at_one_depth(nets):
    assert deepest_twins(groups_of(*[net(*each) for each in nets])) is None


def test_a_statement_on_twins_has_their_names_and_medians():
    twins = tuple([net(residual, 56, seed=seed) for seed in range(3)] for residual in (False, True))
    values = {
        f"{kind}-56-{seed}": start + seed for kind, start in (("plain", 10), ("residual", 20)) for seed in range(3)
    }
    statistic = Statistic("Rank", lambda each: values[each.name], "{plain} has {0}, {residual} {1}", "{:.1f}".format)
    assert says({}, twins, statistic) == (
        "plain-56 has 11.0, residual-56 21.0. Median and range over seeds: plain-56 11.0 (10.0 to 12.0), residual-56 "
        "21.0 (20.0 to 22.0)."
    )


def test_without_twins_each_net_has_the_median_of_its_measured_seeds():
    values = iter([1.0, None, 3.0, None, 7.0])
    groups = groups_of(*[net(False, 20, seed=seed) for seed in range(3)], net(False, 56), net(False, 110))
    said = says(groups, None, Statistic("Rank", lambda each: next(values), "", str))
    assert said == "Rank: plain-20 2.0, plain-110 7.0. There are no twins to compare."
