"""Rates: which records of a run are read, when it reaches a threshold, and the growth with depth of known curves."""

import json

import numpy as np
import pytest

from resnet_jax.analysis.censored import ABOVE, BELOW, EXACT
from resnet_jax.analysis.rates import first_segment, measure, reach, smoothed, windows
from resnet_jax.analysis.rates_report import record, sentences
from resnet_jax.analysis.runs import group_seeds, read_run, read_runs
from tests.analysis.synthetic import set_losses, write_run

DEPTHS = (8, 14, 20, 26, 32, 38, 44, 56)
KAPPA = 0.05


def one_run(folder, losses, rates=None, status="finished", every=10, **fields):
    return read_run(set_losses(write_run(folder, status=status, **fields), losses, every, rates))


def write_sweep(folder, depths=DEPTHS, kappa=KAPPA, scatter=0.0, seeds=1, steps=3000, **fields):
    """Write plain nets whose loss falls exponentially, tau 20 steps at depth 0 and growing exponentially with it."""
    random = np.random.default_rng(0)
    for depth in depths:
        for seed in range(seeds):
            tau = 20 * np.exp(kappa * depth + random.normal(0, scatter))
            ends = np.arange(10, steps + 1, 10)
            losses = (2.3 * np.exp(-(ends - 5) / tau)).tolist()
            set_losses(write_run(folder / f"{depth}-{seed}", depth, seed=seed, steps=steps, **fields), losses)
    return group_seeds(read_runs([folder])[0])


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
    assert reach(run, segment, 0.2)[2:4] == (50.0, ABOVE)
    assert reach(run, segment, 5.0)[2:4] == (5.0, BELOW)


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


@pytest.mark.parametrize("steps", [3000, 150])
def test_curves_without_noise_give_kappa_even_if_half_are_censored(tmp_path, steps):
    (found,) = measure(write_sweep(tmp_path, steps=steps), [0.5]).growths
    law = found.laws["exponential"]
    censored = sum(each.side == ABOVE for each in found.reaches)
    assert censored == (0 if steps == 3000 else 4)
    assert law.slope == pytest.approx(KAPPA, abs=1e-3)
    assert law.interval[0] <= law.slope <= law.interval[1]
    assert found.advantage > 2


def test_with_noise_and_half_of_the_depths_censored_the_interval_contains_kappa_and_leaving_out_is_biased(tmp_path):
    (found,) = measure(write_sweep(tmp_path, scatter=0.3, seeds=3, steps=150), [0.5]).growths
    law = found.laws["exponential"]
    assert law.interval[0] < KAPPA < law.interval[1]
    exact = [each for each in found.reaches if each.side == EXACT]
    assert len(exact) < 16
    naive = np.polyfit([each.depth for each in exact], np.log([each.steps for each in exact]), 1)[0]
    assert naive < min(law.slope, 0.8 * KAPPA)


def test_steps_that_grow_as_a_power_of_depth_are_told_from_exponential_growth(tmp_path):
    for depth in DEPTHS:
        tau = 0.5 * depth**1.5
        losses = (2.3 * np.exp(-(np.arange(5, 3000, 10)) / tau)).tolist()
        set_losses(write_run(tmp_path / f"{depth}", depth, steps=3000), losses)
    (found,) = measure(group_seeds(read_runs([tmp_path])[0]), [0.5]).growths
    assert found.laws["power law"].slope == pytest.approx(1.5, abs=0.01)
    assert found.advantage < -2
    assert "a power law of depth (exponent 1.50" in sentences(measure(group_seeds(read_runs([tmp_path])[0]), [0.5]))[0]


def test_fewer_than_six_depths_or_three_that_reach_the_threshold_give_no_law(tmp_path):
    said = sentences(measure(write_sweep(tmp_path / "five", DEPTHS[:5]), [0.5]))
    assert said[0] == ("plain, steps to a training loss of 0.5: the law of growth needs six depths, and 5 are there.")
    said = sentences(measure(write_sweep(tmp_path / "slow", steps=60), [0.5]))
    assert "needs three depths at which a run reaches it, and 1 are there." in said[0]
    assert "7 of 8 runs did not reach it and are censored: they count as taking longer." in said[0]


def test_the_report_says_growth_decay_and_what_is_censored_and_why(tmp_path):
    write_sweep(tmp_path, scatter=0.1, seeds=3, steps=400)
    set_losses(tmp_path / "56-0", [2.0] * 30)
    (tmp_path / "56-0" / "summary.json").unlink()
    set_losses(tmp_path / "44-0", [2.0, None])
    summary = json.loads((tmp_path / "44-0" / "summary.json").read_text())
    (tmp_path / "44-0" / "summary.json").write_text(json.dumps(summary | {"status": "diverged"}))
    found = measure(group_seeds(read_runs([tmp_path])[0]), [0.1])
    said = sentences(found)
    assert said[0].startswith("plain, steps to a training loss of 0.1: times 1.")
    assert "per ten layers (95 % interval 1." in said[0]
    assert "(1 diverged, 1 unfinished) and are censored: they count as taking longer." in said[0]
    assert any(each.startswith("plain-8: the training loss falls exponentially, tau = ") for each in said)
    assert any("1 x no progress: rate not identified" in each for each in said if each.startswith("plain-56"))
    numbers = json.loads(json.dumps(record(found), allow_nan=False))
    assert numbers["growths"][0]["laws"]["exponential"]["slope"] == found.growths[0].laws["exponential"].slope
    assert len(numbers["growths"][0]["reaches"]) == 24


def test_each_series_has_its_own_growth_whatever_it_differs_in(tmp_path):
    write_sweep(tmp_path / "a", model__norm="batch")
    nets = write_sweep(tmp_path / "b", kappa=0.0, model__norm="group")
    nets = group_seeds(read_runs([tmp_path])[0])
    growths = measure(nets, [1.0, 0.5]).growths
    assert [(each.series, each.threshold) for each in growths] == [
        (f"plain, norm {norm}", threshold) for norm in ("batch", "group") for threshold in (1.0, 0.5)
    ]
    assert growths[-1].laws["exponential"].slope == pytest.approx(0.0, abs=1e-3)


def test_what_shifts_the_steps_or_cannot_be_measured_is_remarked(tmp_path):
    write_sweep(tmp_path / "a", optimizer__warmup_min_depth=56, optimizer__warmup_steps=100)
    warm_up = {"optimizer__warmup_min_depth": 56, "optimizer__warmup_steps": 100}
    write_run(tmp_path / "started", 56, status=None, seed=9, steps=3000, **warm_up)
    (tmp_path / "started" / "metrics.jsonl").write_text("")
    remarks = measure(group_seeds(read_runs([tmp_path])[0]), [0.5]).remarks
    assert "The steps of plain-56 include 100 of warm-up or ramp-up." in remarks
    missing = "1 of 2 runs of plain-56 have no record of the loss at a constant learning rate, and are left out."
    assert missing in remarks
