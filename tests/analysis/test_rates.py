"""Rates: which records of a run are read, when it reaches a threshold, and the growth with depth of known curves."""

import numpy as np
import pytest

from resnet_jax.analysis.censored import ABOVE, BELOW, EXACT
from resnet_jax.analysis.rates import Law, Laws, first_segment, growth, measure, reach, smoothed, windows
from resnet_jax.analysis.runs import read_run
from tests.analysis.synthetic import (
    DEPTHS,
    KAPPA,
    nets_in,
    reaches_of,
    set_losses,
    write_exponentials,
    write_run,
)


def one_run(folder, losses, rates=None, status="finished", every=10, **fields):
    return read_run(set_losses(write_run(folder, status=status, **fields), losses, every, rates))


def test_the_first_segment_ends_before_the_learning_rate_is_cut(tmp_path):
    run = one_run(tmp_path / "run", [2.0, 1.0, 0.5, 0.1, 0.1], [0.1, 0.1, 0.1, 0.01, 0.01])
    segment = first_segment(run)
    assert (segment.begin, segment.end) == (0, 30)
    np.testing.assert_array_equal(segment.losses, [2.0, 1.0, 0.5])
    assert not segment.unfinished
    assert not segment.diverged


def test_records_of_warm_up_and_ramp_up_are_left_out_and_those_that_mix_two_rates(tmp_path):
    # 15 steps of warm-up end within the second record, which therefore is of two learning rates.
    warm = {"optimizer__warmup_steps": 15, "optimizer__warmup_min_depth": 20}
    segment = first_segment(one_run(tmp_path / "warm", [2, 1.5, 1, 0.5], [0.01, 0.05, 0.05, 0.05], **warm))
    assert segment.begin == 20
    np.testing.assert_array_equal(segment.losses, [1, 0.5])
    ramp = {"optimizer__rampup_fraction": 0.1, "optimizer__rampup_steps": 20}
    segment = first_segment(one_run(tmp_path / "ramp", [2, 1.5, 1, 0.5], [0.03, 0.05, 0.05, 0.05], **ramp))
    assert segment.begin == 20
    shallow = {"optimizer__warmup_steps": 15, "optimizer__warmup_min_depth": 110}
    assert first_segment(one_run(tmp_path / "shallow", [2, 1.5], **shallow)).begin == 0


def test_a_later_segment_of_the_same_rate_does_not_belong_to_the_first(tmp_path):
    segment = first_segment(one_run(tmp_path / "run", [2, 1, 0.5, 0.4], [0.1, 0.1, 0.01, 0.1]))
    assert segment.end == 20


def test_the_loss_is_smoothed_over_an_epoch_within_the_segment_and_by_the_steps_of_each_record(tmp_path):
    segment = first_segment(one_run(tmp_path / "run", [4.0, 2.0, 1.0, 1.0]))._replace(window=3)
    np.testing.assert_allclose(smoothed(segment), [3.0, 7 / 3, 4 / 3, 1.0])
    uneven = segment._replace(ends=np.array([10, 40, 50, 60]))
    assert smoothed(uneven)[0] == pytest.approx((10 * 4 + 30 * 2) / 40)
    assert first_segment(one_run(tmp_path / "dense", [1.0] * 40, every=2)).window == 5


def test_windows_are_whole_leave_out_the_beginning_and_are_timed_at_their_middle(tmp_path):
    segment = first_segment(one_run(tmp_path / "run", list(range(1, 22))))._replace(window=4)
    times, losses, steps = windows(segment)
    assert steps == 210
    # 5 % are 10.5 steps, so that two records are left out; of the other 19, the last 16 are four windows.
    np.testing.assert_allclose(losses, [7.5, 11.5, 15.5, 19.5])
    np.testing.assert_allclose(times, np.array([70, 110, 150, 190]) / 210)


def test_a_threshold_is_reached_where_the_loss_stays_below_it_between_two_records(tmp_path):
    run = one_run(tmp_path / "run", [4.0, 0.5, 2.0, 0.5, 0.25])
    segment = first_segment(run)
    found = reach(run, segment, 1.0)
    assert found.side == EXACT
    assert found.steps == pytest.approx(30)  # Halfway, on the logarithm, from 2.0 at step 25 to 0.5 at step 35.
    assert found.rate == 0.05
    never, at_once = reach(run, segment, 0.2), reach(run, segment, 5.0)
    assert (never.steps, never.side) == (50.0, ABOVE)
    assert (at_once.steps, at_once.side) == (5.0, BELOW)


def test_a_diverged_run_is_censored_at_the_step_where_it_diverged(tmp_path):
    run = one_run(tmp_path / "run", [4.0, 0.5, None], status="diverged")
    found = reach(run, first_segment(run), 1.0)
    assert (found.steps, found.side, found.diverged, found.unfinished) == (30.0, ABOVE, True, False)
    at_once = one_run(tmp_path / "at_once", [None], status="diverged")
    assert reach(at_once, first_segment(at_once), 1.0).steps == 10.0


def test_a_run_that_has_not_gone_on_is_censored_and_called_unfinished(tmp_path):
    run = one_run(tmp_path / "run", [4.0, 2.0], status=None)
    assert reach(run, first_segment(run), 1.0).unfinished
    cut = one_run(tmp_path / "cut", [4.0, 2.0, 1.9], [0.1, 0.1, 0.01], status=None)
    assert not reach(cut, first_segment(cut), 1.0).unfinished


def test_a_run_that_ends_below_a_loss_has_reached_the_thresholds_above_it_and_is_finished(tmp_path):
    losses = [4.0, 1.6, 1.4, 0.49]
    run = one_run(tmp_path / "run", losses, steps=3000, stop_below_loss=0.5)
    segment = first_segment(run)._replace(window=3)
    assert segment.is_low
    assert not segment.unfinished
    # Averaged with the record before it, the last one would be 0.945.
    found = reach(run, segment, 0.9)
    assert (found.side, found.unfinished) == (EXACT, False)
    assert 25 < found.steps < 35
    assert reach(run, segment, 1.2).steps < found.steps
    slow = one_run(tmp_path / "slow", losses[:3], steps=3000, stop_below_loss=0.5)
    assert not first_segment(slow).is_low


def test_steps_to_a_threshold_are_those_of_runs_that_go_on(tmp_path):
    ends = np.arange(4, 3001, 4)
    for depth in DEPTHS:
        losses = 2.3 * np.exp(-(ends - 2) / (20 * np.exp(KAPPA * depth)))
        last = int(np.flatnonzero(losses < 0.5)[0]) + 1
        for name, records, fields in (("all", 750, {}), ("short", last, {"stop_below_loss": 0.5})):
            folder = write_run(tmp_path / name / str(depth), depth, steps=3000, **fields)
            set_losses(folder, losses[:records].tolist(), every=4, epoch=12)
    whole, short = (measure(nets_in(tmp_path / name), [2.0, 1.0, 0.5]).growths for name in ("all", "short"))
    for all_steps, ended in zip(whole[:2], short[:2], strict=True):
        assert not any(each.unfinished for each in ended.reaches)
        assert [each.side for each in ended.reaches] == [each.side for each in all_steps.reaches]
        np.testing.assert_allclose([e.steps for e in ended.reaches], [e.steps for e in all_steps.reaches], rtol=0.01)
    assert short[2].steps is None
    assert "config.stop_below_loss=0.5" in short[2].problem


@pytest.mark.parametrize("steps", [3000, 150])
def test_curves_without_noise_give_kappa_even_if_half_are_censored(tmp_path, steps):
    (found,) = measure(write_exponentials(tmp_path, steps=steps), [0.5]).growths
    assert sum(each.side == ABOVE for each in found.reaches) == (0 if steps == 3000 else 4)
    factor = np.exp(10 * KAPPA)
    assert found.steps.factor == pytest.approx(factor, rel=0.01)
    assert found.steps.interval[0] <= found.steps.factor <= found.steps.interval[1]
    assert dict(found.steps.ranking)["power law"] > 2
    assert found.steps.measured == (8, 56 if steps == 3000 else 26)
    assert found.progress is None


def test_with_noise_and_half_of_the_depths_censored_the_interval_contains_kappa_and_leaving_out_is_biased(tmp_path):
    (found,) = measure(write_exponentials(tmp_path, scatter=0.3, seeds=3, steps=150), [0.5]).growths
    assert found.steps.interval[0] < np.exp(10 * KAPPA) < found.steps.interval[1]
    exact = [each for each in found.reaches if each.side == EXACT]
    assert len(exact) < 16
    naive = np.polyfit([each.depth for each in exact], np.log([each.steps for each in exact]), 1)[0]
    assert np.exp(10 * naive) < min(found.steps.factor, np.exp(8 * KAPPA))


@pytest.mark.parametrize(
    ("law", "logarithms", "coefficients"),
    [
        ("power law", 2 + 1.5 * np.log(DEPTHS), [2, 1.5]),
        ("quadratic", 4 + 0.02 * np.array(DEPTHS) + 0.001 * np.array(DEPTHS) ** 2, [4, 0.2, 0.1]),
    ],
)
def test_the_law_that_steps_follow_is_the_first_of_the_ranking_and_has_their_coefficients(
    law, logarithms, coefficients
):
    laws = growth("plain", 1.0, reaches_of(logarithms)).steps
    assert laws.ranking[0] == (law, 0.0)
    np.testing.assert_allclose(laws.fitted[law].coefficients, coefficients, rtol=0.15)
    aic = [laws.fitted[name].aic for name, _ in laws.ranking]
    assert aic == sorted(aic)


def test_seeds_are_not_independent_evidence_on_a_law_of_depth():
    random = np.random.default_rng(2)
    logarithms = 4 + 0.05 * np.array(DEPTHS) + random.normal(0, 0.3, len(DEPTHS))
    few, many = (growth("plain", 1.0, reaches_of(logarithms, seeds)).steps for seeds in (2, 20))
    np.testing.assert_allclose(few.interval, many.interval, rtol=0.05)
    np.testing.assert_allclose(dict(few.ranking)["power law"], dict(many.ranking)["power law"], atol=0.5)


def test_steps_times_the_learning_rate_grow_by_their_own_factor():
    rates = [0.1 * np.exp(-0.04 * depth) for depth in DEPTHS]
    found = growth("plain", 1.0, reaches_of(4 + 0.05 * np.array(DEPTHS), rates=rates))
    assert found.steps.factor == pytest.approx(np.exp(0.5), rel=0.02)
    assert found.progress.factor == pytest.approx(np.exp(0.1), rel=0.02)


def test_a_quadratic_needs_four_depths_that_reach_the_threshold():
    found = growth("plain", 1.0, reaches_of(4 + 0.05 * np.array(DEPTHS), limit=np.exp(4 + 0.05 * 23)))
    assert found.steps.measured == (8, 20)
    assert set(found.steps.fitted) == {"exponential", "power law"}
    assert found.steps.bend is None


def test_each_series_has_its_own_growth_whatever_it_differs_in(tmp_path):
    write_exponentials(tmp_path / "a", model__norm="batch")
    write_exponentials(tmp_path / "b", kappa=0.0, model__norm="group")
    growths = measure(nets_in(tmp_path), [1.0, 0.5]).growths
    assert [(each.series, each.threshold) for each in growths] == [
        (f"plain, norm {norm}", threshold) for norm in ("batch", "group") for threshold in (1.0, 0.5)
    ]
    assert growths[-1].steps.factor == pytest.approx(1.0, abs=0.01)


def test_what_shifts_the_steps_or_cannot_be_measured_is_remarked(tmp_path):
    warm_up = {"optimizer__warmup_min_depth": 56, "optimizer__warmup_steps": 100}
    write_exponentials(tmp_path / "a", DEPTHS[-2:], **warm_up)
    write_run(tmp_path / "started", 56, status=None, seed=9, steps=3000, **warm_up)
    (tmp_path / "started" / "metrics.jsonl").write_text("")
    remarks = measure(nets_in(tmp_path), [0.5]).remarks
    assert "The steps of plain-56 include 100 of warm-up or ramp-up." in remarks
    missing = "1 of 2 runs of plain-56 have no record of the loss at a constant learning rate, and are left out."
    assert missing in remarks


def test_a_law_gives_the_logarithm_of_its_formula_and_its_growth_over_ten_layers_about_a_depth():
    depths = np.array([8.0, 20, 56])
    exponential = Law("exponential", [1.0, 0.5], 0.1, 0.1, 0.0)
    power = Law("power law", [1.0, 2.0], 0.1, 0.1, 0.0)
    quadratic = Law("quadratic", [1.0, 0.2, 0.1], 0.1, 0.1, 0.0)
    np.testing.assert_allclose(exponential.logarithms(depths), 1 + 0.05 * depths)
    np.testing.assert_allclose(power.logarithms(depths), 1 + 2 * np.log(depths))
    np.testing.assert_allclose(quadratic.logarithms(depths), 1 + 0.02 * depths + 0.001 * depths**2)
    assert exponential.factor(20) == exponential.factor(56) == pytest.approx(np.exp(0.5))
    assert power.factor(20) == pytest.approx((25 / 15) ** 2)
    assert quadratic.factor(20) == pytest.approx(np.exp(0.2 + 0.001 * (25**2 - 15**2)))
    assert Law("exponential", [0.0, 800.0], 0.1, 0.1, 0.0).factor(20) == np.inf


def test_the_ranking_begins_with_the_lowest_criterion_and_has_the_others_excess():
    laws = {name: Law(name, [], 0.1, 0.1, aic) for name, aic in (("exponential", 7.5), ("power law", -2.0))}
    assert Laws(laws, 1.0, (1.0, 1.0), None, (8, 56)).ranking == [("power law", 0.0), ("exponential", 9.5)]


@pytest.mark.parametrize(
    ("depths", "limit", "problem"),
    [
        (5, np.inf, "six depths, not 5"),
        (8, np.exp(4 + 0.05 * 17), "three depths at which a run reaches it, not 2"),
    ],
)
def test_fewer_than_six_depths_or_three_that_reach_the_threshold_give_no_law(depths, limit, problem):
    reaches = [each for each in reaches_of(4 + 0.05 * np.array(DEPTHS), limit=limit) if each.depth in DEPTHS[:depths]]
    found = growth("plain", 1.0, reaches)
    assert (found.steps, found.progress, found.reaches) == (None, None, reaches)
    assert found.problem.endswith(problem)


def test_a_run_without_records_has_no_segment_and_one_in_warm_up_neither(tmp_path):
    assert first_segment(one_run(tmp_path / "empty", [], status=None)) is None
    warm = {"optimizer__warmup_steps": 100, "optimizer__warmup_min_depth": 1}
    assert first_segment(one_run(tmp_path / "warm", [2.0, 1.0], status=None, **warm)) is None


def test_losses_at_the_rounding_of_float32_are_no_windows_and_reach_any_threshold(tmp_path):
    run = one_run(tmp_path / "run", [1.0, 1.0, 0.0, 0.0])
    segment = first_segment(run)._replace(window=1)
    assert windows(segment)[1].tolist() == [1.0]  # The first window is left out, as 5 % of the segment.
    found = reach(run, segment, 0.5)
    assert found.side == EXACT
    assert 15 < found.steps < 25  # Between the middles of the records of 1 and 0.
