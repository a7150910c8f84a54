"""Differences between nets of one depth, with their intervals."""

import numpy as np
import pytest

from resnet_jax.analysis.differences import (
    are_twins,
    difference,
    differences,
    plain_against_residual,
    sentence,
    statement,
)
from resnet_jax.analysis.gap import gap
from tests.analysis.synthetic import nets_in, write_run, write_seeds


@pytest.fixture
def found(tmp_path):
    for seed in range(3):
        for depth, more in ((20, 0.1), (56, 0.4)):
            write_run(tmp_path / f"r{depth}{seed}", depth, True, 0.1 + 0.01 * seed, seed)
            write_run(
                tmp_path / f"s{depth}{seed}", depth, True, 0.1 + more + 0.01 * seed, seed, gates__route="stop_gradient"
            )
    write_run(tmp_path / "unfinished", 56, False, status=None)
    write_run(tmp_path / "deeper", 110, False)
    return differences(nets_in(tmp_path), "residual")


def test_a_net_is_compared_with_the_reference_of_its_depth(found):
    assert [(each.net, each.reference) for each in found] == [
        ("residual-20, route stop_gradient", "residual-20"),
        ("residual-56, route stop_gradient", "residual-56"),
    ]
    for each, more in zip(found, (0.1, 0.4), strict=True):
        for error in (each.training, each.test):
            assert error.difference == pytest.approx(more)
            assert error.interval[0] < more < error.interval[1]


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
    (twins,) = plain_against_residual(nets_in(tmp_path))
    assert (twins.net, twins.reference) == ("plain-56", "residual-56, shortcut A")
    assert twins.training.difference == pytest.approx(0.4)
    assert statement(twins).word == "not judged"


def test_a_difference_is_the_gap_of_the_complete_runs_in_training_and_in_test_error(tmp_path):
    write_seeds(tmp_path / "plain", 56, False, (0.5, 0.51, 0.55))
    write_seeds(tmp_path / "residual", 56, True, (0.1, 0.14, 0.12))
    write_run(tmp_path / "stopped", 56, False, 0.9, seed=7, status=None)
    write_run(tmp_path / "diverged", 56, True, 0.9, seed=7, status="diverged")
    plain, residual = nets_in(tmp_path)
    found = difference(plain, residual)
    for error, more in ((found.training, 0), (found.test, 0.01)):  # As the runs were written.
        expected = gap(np.array([0.5, 0.51, 0.55]) + more, np.array([0.1, 0.14, 0.12]) + more)
        assert error.errors == pytest.approx(expected.errors)
        assert error.others == pytest.approx(expected.others)
        assert error.interval == pytest.approx(expected.interval)
    assert (found.net, found.reference) == ("plain-56", "residual-56")
    said = statement(found, "at learning rate 0.1")
    assert (said.name, said.gap, said.word, said.where) == (
        *("residual-56 / plain-56", found.training, "higher", "at learning rate 0.1"),
    )


def test_twins_agree_in_every_field_that_both_read(tmp_path):
    write_run(tmp_path / "plain", 20, False, model__shortcut="A")
    for name, fields in {
        "shortcut": {"model__shortcut": "B"},  # A plain net does not read it.
        "norm": {"model__norm": "none"},
        "rate": {"optimizer__learning_rate": 0.5},
    }.items():
        write_run(tmp_path / name, 20, True, **fields)
    nets = {net.runs[0].name: net for net in nets_in(tmp_path)}
    twins = {name: are_twins(nets["plain"], net) for name, net in nets.items()}
    assert twins == {"plain": False, "shortcut": True, "norm": False, "rate": False}
    assert not are_twins(nets["shortcut"], nets["plain"])  # The plain net comes first.


def test_nets_without_a_reference_of_their_depth_or_complete_runs_have_no_difference(tmp_path):
    write_run(tmp_path / "reference", 20, True, status=None)
    write_run(tmp_path / "plain", 20, False)
    nets = nets_in(tmp_path)
    assert differences(nets, "residual") == differences(nets, "absent") == plain_against_residual(nets) == []
    assert differences([], "residual") == plain_against_residual([]) == []


def test_differences_of_seeds_too_few_for_an_interval_are_not_judged(tmp_path):
    write_run(tmp_path / "plain", 20, False, 0.5)
    write_run(tmp_path / "residual", 20, True, 0.1)
    [found] = plain_against_residual(nets_in(tmp_path))
    assert sentence(found) == (
        "plain-20 against residual-20: not judged (+40.00 points, 1 seed); residual-20: 10.0 %; plain-20: 50.0 %. Test "
        "error: +40.00 points (1 seed)."
    )
