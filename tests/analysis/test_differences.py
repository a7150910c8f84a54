"""Differences between nets of one depth, with their intervals."""

import pytest

from resnet_jax.analysis.differences import differences, plain_against_residual, sentence, statement
from resnet_jax.analysis.runs import group_seeds, read_runs
from tests.analysis.synthetic import write_run


@pytest.fixture
def found(tmp_path):
    for seed in range(3):
        for depth, more in ((20, 0.1), (56, 0.4)):
            write_run(tmp_path / f"r{depth}{seed}", depth, True, 0.1 + 0.01 * seed, seed)
            write_run(
                tmp_path / f"s{depth}{seed}", depth, True, 0.1 + more + 0.01 * seed, seed, gates__route="stop_gradient"
            )
    write_run(tmp_path / "unfinished", 56, False, status=None)
    write_run(tmp_path / "alone", 110, False)
    return differences(group_seeds(read_runs([tmp_path])[0]), "residual")


def test_a_net_is_compared_with_the_reference_of_its_depth(found):
    assert [(each.net, each.reference) for each in found] == [
        ("residual-20, route stop_gradient", "residual-20"),
        ("residual-56, route stop_gradient", "residual-56"),
    ]
    for each, difference in zip(found, (0.1, 0.4), strict=True):
        for gap in (each.training, each.test):
            assert gap.difference == pytest.approx(difference)
            assert gap.interval[0] < difference < gap.interval[1]


def test_a_difference_in_words_has_both_errors_and_their_intervals(found):
    assert sentence(found[1]).startswith(
        "residual-56, route stop_gradient against residual-56: higher, +40.00 points of training error (95 % interval 3"
    )
    assert "Test error: +40.00 points (95 % interval" in sentence(found[1])


def test_plain_nets_are_compared_with_the_residual_nets_that_differ_in_nothing_else_at_the_greatest_depth(tmp_path):
    for depth in (20, 56):
        write_run(tmp_path / f"plain{depth}", depth, False, 0.5)
        write_run(tmp_path / f"frozen{depth}", depth, False, 0.8, optimizer__frozen_below="stage3/block0")
        for shortcut in "AB":
            write_run(tmp_path / f"residual{shortcut}{depth}", depth, True, 0.1, model__shortcut=shortcut)
    write_run(tmp_path / "stopped", 56, True, 0.3, gates__route="stop_gradient")
    write_run(tmp_path / "deep", 110, False, 0.9)
    (twins,) = plain_against_residual(group_seeds(read_runs([tmp_path])[0]))
    assert (twins.net, twins.reference) == ("plain-56", "residual-56, shortcut A")
    assert twins.training.difference == pytest.approx(0.4)
    assert statement(twins).word == "not judged"
