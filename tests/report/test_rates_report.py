"""Convergence rates in words, as rows and as a record: the numbers are the fits', and censored runs are counted."""

import io
import json
import math
import re

import numpy as np
import pytest
from rich.console import Console

from resnet_jax.analysis.censored import ABOVE, BELOW, EXACT
from resnet_jax.analysis.decay import Decay
from resnet_jax.analysis.rates import Growth, Law, Laws, Rates, Reach, growth, measure
from resnet_jax.report.rates_report import (
    CAPTION,
    censored_sentence,
    decay_sentence,
    growth_sentence,
    listed,
    preference,
    record,
    rows,
    sentences,
)
from resnet_jax.report.tables import terminal_table
from tests.analysis.synthetic import DEPTHS, nets_in, reaches_of, set_losses, write_exponentials


def laws_of(aics, factor=1.5, interval=(1.25, 1.75), bend=None, measured=(8, 56), slopes=None):
    """Return laws whose criteria are ``aics``, by name; ``slopes`` are their coefficients after the constant."""
    slopes = {"exponential": [0.4], "power law": [1.5], "quadratic": [0.2, 0.1]} | (slopes or {})
    fitted = {name: Law(name, [4.0, *slopes[name]], 0.1, 0.1, aic) for name, aic in aics.items()}
    return Laws(fitted, factor, interval, bend, measured)


def reaches(*figures):
    """Return runs of these depths and sides, all censored ones finished."""
    return [Reach("run", depth, 0.1, 100.0, side, diverged=False, unfinished=False) for depth, side in figures]


def growth_of(steps, progress=None, runs=(), series="plain", threshold=1.0, problem=""):
    return Growth(series, threshold, list(runs), steps, progress, problem)


AICS = {"exponential": 0.0, "power law": 3.25, "quadratic": 1.9}


def test_growth_has_factor_interval_depths_and_threshold_of_the_fit():
    said = growth_sentence(growth_of(laws_of(AICS, measured=(14, 44)), threshold=0.25, series="residual"))
    assert said.startswith(
        "residual, steps to a training loss of 0.25: times 1.50 (95 % interval 1.25 to 1.75) per ten layers on average"
        "; measured from 14 up to 44 layers. "
    )
    assert "learning rate" not in said


def test_growth_of_steps_times_the_learning_rate_follows_where_rates_differ():
    said = growth_sentence(growth_of(laws_of(AICS), laws_of(AICS, 1.1, (1.05, 120.0))))
    assert ", steps times learning rate: times 1.10 (95 % interval 1.05 to >100); measured" in said


def test_deeper_nets_that_never_reach_the_threshold_are_named_as_censored():
    runs = reaches((8, EXACT), (20, EXACT), (32, ABOVE), (44, ABOVE), (44, ABOVE), (56, ABOVE))
    said = growth_sentence(growth_of(laws_of(AICS, measured=(8, 20)), runs=runs))
    assert "; measured from 8 up to 20 layers, all runs of 32, 44 and 56 layers are censored." in said


def test_a_growth_without_laws_has_its_problem():
    found = growth_of(None, problem="the law of growth needs six depths, not 5", threshold=0.5)
    assert growth_sentence(found) == f"plain, steps to a training loss of 0.5: {found.problem}."
    assert sentences(Rates([], [found], [])) == [growth_sentence(found)]  # No caption of a table without rows.
    assert rows(Rates([], [found], [])) == []


@pytest.mark.parametrize(
    ("aics", "words"),
    [
        ({"exponential": 1.0, "power law": 5.0}, "The exponential fits best (AIC lower by 4.0 than the power law)"),
        (
            {"exponential": 9.0, "power law": 5.0, "quadratic": 8.0},
            "The power law fits best (AIC lower by 3.0 than the quadratic and 4.0 than the exponential), exponent 1.50",
        ),
        (
            {"exponential": 1.0, "power law": 2.5},
            "The exponential and the power law cannot be distinguished (AIC differs by 1.5)",
        ),
        (
            {"exponential": 1.0, "power law": 2.5, "quadratic": 4.5},
            "The exponential and the power law cannot be distinguished (AIC differs by 1.5); the quadratic fits worse "
            "(AIC higher by 3.5)",
        ),
        ({"exponential": 1.0, "power law": 3.0}, "The exponential fits best (AIC lower by 2.0 than the power law)"),
        ({"exponential": 1.0}, "The exponential fits best"),
    ],
)
def test_the_preferred_law_leads_by_at_least_two_of_the_criterion(aics, words):
    assert preference(laws_of(aics)) == words


@pytest.mark.parametrize(
    ("curvature", "bend", "start"),
    [
        (0.1, 0.001, ": the growth accelerates"),
        (-0.01, 0.049, ": the growth slows down"),
        (0.1, 0.06, ": a hint, with so few depths, that the growth accelerates"),
    ],
)
def test_a_quadratic_has_its_growth_at_both_ends_and_is_a_hint_where_its_p_value_is_high(curvature, bend, start):
    aics = {"exponential": 9.0, "quadratic": 1.0}
    said = preference(laws_of(aics, bend=bend, slopes={"quadratic": [0.2, curvature]}))
    assert start in said
    # Over the ten layers about a depth the logarithm grows by 0.2 and by the curvature times its difference of squares.
    ends = [math.exp(0.2 + curvature * ((d / 10 + 0.5) ** 2 - (d / 10 - 0.5) ** 2)) for d in (8, 56)]
    assert f"from times {ends[0]:.2f} at 8 layers to times {ends[1]:.2f} at 56 (p = {bend:.2g})" in said


def test_a_row_has_the_interval_and_the_excess_of_each_law_and_is_empty_where_a_law_is_missing():
    laws = laws_of(AICS, interval=(0.5, math.inf))
    table = rows(Rates([], [growth_of(laws), growth_of(None), growth_of(laws_of({"exponential": 2.0}))], []))
    assert table[0] == {
        "net": "plain",
        "loss": "1",
        "up to": "56",
        "steps": "1.50 (0.50->100)",
        "steps x rate": "",
        "exp.": "0.0",
        "pow.": "3.2",
        "quad": "1.9",
    }
    assert (table[1]["pow."], table[1]["quad"]) == ("", "")
    assert len(table) == 2


def test_all_rows_have_steps_times_rate_where_a_series_has_several_rates():
    two = [growth_of(laws_of(AICS), laws_of(AICS, 1.1, (1.0, 1.2))), growth_of(laws_of(AICS), series="residual")]
    first, second = rows(Rates([], two, []))
    assert first["steps x rate"] == "1.10 (1.00-1.20)"
    assert second["steps x rate"] == second["steps"]  # At one rate both grow alike.


def test_a_table_of_rates_fits_a_terminal_of_80_columns():
    found = growth_of(laws_of(AICS), laws_of(AICS), series="residual, learning_rate 0.003", threshold=0.125)
    console = Console(width=80, file=io.StringIO())
    console.print(terminal_table(rows(Rates([], [found], [])), "Convergence rates"))
    assert "quad" in console.file.getvalue()


def test_runs_above_a_threshold_are_counted_by_depth_and_cause():
    runs = [
        *reaches((8, EXACT), (8, EXACT), (20, ABOVE)),
        Reach("run", 20, 0.1, 50.0, ABOVE, diverged=True, unfinished=False),
        Reach("run", 32, 0.1, 50.0, ABOVE, diverged=False, unfinished=True),
    ]
    said = censored_sentence(growth_of(laws_of(AICS), runs=runs))
    assert said == (
        " 3 of 5 runs did not reach it: 2 of 2 with 20 layers and 1 of 1 with 32 layers (1 diverged, 1 unfinished). "
        "They are censored: they count as taking longer."
    )
    assert "They are censored" not in censored_sentence(growth_of(None, runs=runs))


def test_runs_below_a_threshold_from_the_first_record_on_are_counted():
    runs = reaches((8, BELOW), (20, EXACT), (32, EXACT))
    found = growth_of(laws_of(AICS), runs=runs)
    assert censored_sentence(found) == " 1 of 3 were there at the first record: they count as taking less."
    assert censored_sentence(found._replace(steps=None)) == " 1 of 3 were there at the first record."
    assert censored_sentence(growth_of(laws_of(AICS), runs=runs[1:])) == ""


@pytest.mark.parametrize(
    ("decay", "words"),
    [
        (
            Decay("plain-20", "exponential", 1234.5, (1000.0, 1500.0), 7.04, 3, []),
            "plain-20: the training loss falls exponentially, tau = 1,234 steps (95 % interval 1,000 to 1,500, 3 seeds"
            "; AIC differs by 7.0).",
        ),
        (
            Decay("plain-20", "power law", 0.51234, (0.4, 0.65), -3.0, 1, ["no progress"] * 2),
            "plain-20: the training loss falls as a power law of the steps, p = 0.512 (95 % interval 0.4 to 0.65, "
            "1 seed; AIC differs by 3.0); 2 x no progress.",
        ),
        (
            Decay("plain-20", "exponential", 10.0, (5.0, 2e9), 1.99, 2, []),
            "plain-20: the training loss falls exponentially, tau = 10 steps (95 % interval 5 to 2e+09, 2 seeds; a "
            "power law cannot be distinguished, AIC differs by 2.0).",
        ),
        (
            Decay("plain-20", None, None, None, 0.0, 0, []),
            "plain-20: no rate of the loss, because every run diverged or has no record of it.",
        ),
        (Decay("plain-20", None, None, None, 0.0, 0, ["a", "b", "a"]), "plain-20: 2 x a; 1 x b."),
    ],
)
def test_a_decay_has_its_law_rate_interval_seeds_and_problems(decay, words):
    assert decay_sentence(decay) == words


def test_values_are_listed_with_commas_and_one_and():
    assert [listed(values) for values in ([1], [1, 2], [1, 2, 3])] == ["1", "1 and 2", "1, 2 and 3"]


def test_the_record_is_json_with_every_number_and_null_for_infinite_ones():
    laws = laws_of(AICS, interval=(0.5, math.inf), bend=0.25)
    decay = Decay("plain-20", "exponential", 10.0, (5.0, math.nan), 3.0, 2, ["slow"])
    rates = Rates([decay], [growth_of(laws, runs=reaches((8, EXACT)))], ["a remark"])
    found = json.loads(json.dumps(record(rates), allow_nan=False))
    assert found["remarks"] == ["a remark"]
    assert found["decays"] == [decay._asdict() | {"interval": [5.0, None]}]
    [grown] = found["growths"]
    assert grown["steps"]["interval"] == [0.5, None]
    assert grown["steps"]["bend"] == 0.25
    assert grown["steps"]["fitted"]["power law"] == {
        "name": "power law",
        "coefficients": [4.0, 1.5],
        "between": 0.1,
        "within": 0.1,
        "aic": 3.25,
    }
    assert grown["reaches"][0]["depth"] == 8
    assert grown["progress"] is None


def test_steps_that_accelerate_with_depth_are_said_to_with_the_growth_at_both_ends():
    depths = np.array(DEPTHS)
    said = growth_sentence(growth("plain", 1.0, reaches_of(4 + 0.02 * depths + 0.001 * depths**2, scatter=0.1)))
    # Ten times the derivative, 0.02 + 0.002 depth.
    ends = [float(each) for each in re.search(r"from times (\S+) at 8 layers to times (\S+) at 56", said).groups()]
    np.testing.assert_allclose(ends, np.exp([0.2 + 0.16, 0.2 + 1.12]), rtol=0.1)
    assert "): the growth accelerates with depth" in said


def test_sentences_on_runs_have_growth_decay_and_what_is_censored_and_why(tmp_path):
    write_exponentials(tmp_path, scatter=0.1, seeds=3, steps=400)
    set_losses(tmp_path / "56-0", [2.0] * 30)
    (tmp_path / "56-0" / "summary.json").unlink()
    set_losses(tmp_path / "44-0", [2.0, None])
    summary = json.loads((tmp_path / "44-0" / "summary.json").read_text())
    (tmp_path / "44-0" / "summary.json").write_text(json.dumps(summary | {"status": "diverged"}))
    found = measure(nets_in(tmp_path), [0.1])
    said = sentences(found)
    assert said[0] == CAPTION
    factor = found.growths[0].steps.factor
    assert said[1].startswith(f"plain, steps to a training loss of 0.1: times {factor:.2f} (")
    assert " (1 diverged, 1 unfinished). They are censored" in said[1]
    by_net = {text.partition(":")[0]: text for text in said[2:]}
    assert f"tau = {found.decays[0].rate:,.0f} steps" in by_net["plain-8"]
    assert "1 x no progress: rate not identified" in by_net["plain-56"]
