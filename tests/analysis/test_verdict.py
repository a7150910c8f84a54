"""The verdict, against scipy, closed forms and curves with known gaps."""

import json

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from scipy import stats

from benchmarks.coverage import LAWS, rates
from benchmarks.measure import read
from resnet_jax.analysis.runs import read_runs
from resnet_jax.analysis.verdict import (
    claim,
    exclusions,
    finding,
    gap,
    holm,
    judge,
    sentences,
    statements,
    table,
    table_caption,
)
from tests.analysis.synthetic import write_run


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


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("times", [1, 10])
def test_the_record_of_coverage_is_what_a_small_simulation_finds(law, times):
    (record,) = read("coverage")
    found = rates(law, times, seeds=3, sweeps=100)
    for name, share in record["results"][law][f"3 seeds, scatter {times} : 1"].items():
        probability = min(max(share / 100, 0.002), 0.998)
        assert stats.binomtest(round(found[name]), 100, probability).pvalue > 1e-4, (name, found[name], share)


def test_with_normal_errors_the_interval_and_the_words_are_as_often_right_as_they_say():
    (record,) = read("coverage")
    for name, found in record["results"]["normal"].items():
        assert found["interval holds the gap"] > 93, name
        assert found["false degrades"] < 4, name
        assert found["false does not degrade"] < 8, name


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
def test_beside_a_reference_a_net_can_be_lower_too(errors, claimed):
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


def write_sweep(folder, gaps, seeds=3, spread=0.002):
    """Write runs of 20, 44 and 56 layers; ``gaps`` give the error of each kind and depth."""
    for residual, means in gaps.items():
        for depth, mean in zip((20, 44, 56), means, strict=True):
            for seed in range(seeds):
                name = f"{residual}-{depth}-{seed}"
                error = mean + spread * (seed - (seeds - 1) / 2)
                write_run(folder / name, depth, residual, error, seed)


def test_known_gaps_are_found_and_reported(tmp_path):
    write_sweep(tmp_path, {False: (0.1, 0.15, 0.18), True: (0.1, 0.09, 0.08)})
    verdict = judge(read_runs([tmp_path])[0])
    plain, residual = verdict.series
    assert plain.depths == [20, 44, 56]
    assert [step.difference for step in plain.steps] == pytest.approx([0.05, 0.03])
    assert plain.whole.difference == pytest.approx(0.08)
    assert residual.whole.difference == pytest.approx(-0.02)
    assert plain.test.difference == pytest.approx(0.08)
    said = sentences(verdict)
    assert said[0].startswith(
        "plain, 20 to 56 layers: degrades, +8.00 points of training error (95 % interval 7.55 to 8.45, 3 seeds, p = "
    )
    assert "; 20 layers: 9.80, 10.0, 10.2 %; 56 layers: 17.8, 18.0, 18.2 %)" in said[0]
    assert "so this is degradation, not overfitting" in said[0]
    assert said[1].startswith("plain, depth by depth: 20 to 44 +5.00 points (95 % interval")
    assert said[2].startswith("residual, 20 to 56 layers: does not degrade, -2.00 points of training error")
    assert verdict.left_out == []


def test_the_table_has_the_adjusted_p_values_beside_their_own(tmp_path):
    write_sweep(tmp_path, {False: (0.1, 0.15, 0.18), True: (0.1, 0.1, 0.103)})
    stated = statements(judge(read_runs([tmp_path])[0]), ", at 0.1")
    plain, residual = table(stated)
    assert plain["net"] == "plain, 20 / 56 layers, at 0.1"
    assert plain["training errors (%)"] == "9.80, 10.0, 10.2 / 17.8, 18.0, 18.2"
    p_values = [each.gap.p_value for each in stated]
    assert [plain["p"], residual["p"]] == [f"{value:.2g}" for value in p_values]
    assert [plain["Holm p"], residual["Holm p"]] == [f"{2 * p_values[0]:.2g}", f"{p_values[1]:.2g}"]
    assert "adjusted for the 2 verdicts with one" in table_caption(stated)


def test_a_gap_within_the_scatter_of_seeds_is_inconclusive(tmp_path):
    write_sweep(tmp_path, {False: (0.1, 0.1, 0.101)}, spread=0.02)
    (sentence, _) = sentences(judge(read_runs([tmp_path])[0]))
    assert sentence.startswith("plain, 20 to 56 layers: inconclusive, +0.10 points")


def test_a_gap_in_test_error_only_is_called_overfitting(tmp_path):
    write_sweep(tmp_path, {False: (0.1, 0.1, 0.1)}, spread=0.0)
    for seed, summary in enumerate(sorted(tmp_path.glob("*-56-*/summary.json"))):
        content = json.loads(summary.read_text())
        content["final"]["test"]["error"] = 0.3 + 0.001 * seed
        summary.write_text(json.dumps(content))
    sentence = sentences(judge(read_runs([tmp_path])[0]))[0]
    assert "both at 10.0 %" in sentence
    assert "overfitting, not degradation" in sentence


def test_a_gap_beyond_seeds_in_test_error_alone_is_not_called_overfitting_while_that_in_training_is_open(tmp_path):
    write_sweep(tmp_path, {False: (0.1, 0.1, 0.101)}, spread=0.02)
    for seed, summary in enumerate(sorted(tmp_path.glob("*-56-*/summary.json"))):
        content = json.loads(summary.read_text())
        content["final"]["test"]["error"] = 0.3 + 0.01 * seed
        summary.write_text(json.dumps(content))
    sentence = sentences(judge(read_runs([tmp_path])[0]))[0]
    assert sentence.startswith("plain, 20 to 56 layers: inconclusive")
    assert sentence.endswith("points; that gap is beyond seeds, the one in training error is not.")


def test_one_seed_gives_no_word(tmp_path):
    write_sweep(tmp_path, {False: (0.1, 0.15, 0.18)}, seeds=1)
    sentence = sentences(judge(read_runs([tmp_path])[0]))[0]
    assert sentence.startswith(
        "plain, 20 to 56 layers: not judged (+8.00 points, 1 seed); 20 layers: 10.0 %; 56 layers: 18.0 %. Test error: "
    )


def test_unfinished_diverged_and_differently_trained_runs_are_named_and_left_out(tmp_path):
    write_sweep(tmp_path, {False: (0.1, 0.15, 0.18)})
    write_run(tmp_path / "unfinished", 56, error=0.9, seed=7, status=None)
    write_run(tmp_path / "diverged", 56, error=0.9, seed=8, status="diverged")
    write_run(tmp_path / "other", 56, error=0.9, seed=9, optimizer__learning_rate=0.2)
    verdict = judge(read_runs([tmp_path])[0])
    assert {run.name: reason for run, reason in verdict.left_out} == {
        "unfinished": "unfinished at step 200 of 300",
        "diverged": "diverged at step 200",
        "other": "its recipe differs from most: optimizer.learning_rate 0.2 instead of 0.05",
    }
    assert verdict.series[0].whole.difference == pytest.approx(0.08)


def test_warm_up_of_the_deeper_net_alone_is_said(tmp_path):
    for depth in (20, 110):
        write_run(tmp_path / f"{depth}", depth, optimizer__warmup_steps=40, optimizer__warmup_min_depth=110)
    (sentence,) = sentences(judge(read_runs([tmp_path])[0]))
    assert sentence.endswith("Depth is not all that differs: 110 layers have 40 steps of warm-up, 20 layers 0.")


def test_runs_that_end_below_a_loss_are_not_judged_by_their_errors(tmp_path):
    write_sweep(tmp_path, {False: (0.1, 0.15, 0.18)})
    for summary in tmp_path.glob("*-56-*/summary.json"):
        content = json.loads(summary.read_text())
        content["steps"] = 200
        summary.write_text(json.dumps(content))
    verdict = judge(read_runs([tmp_path])[0])
    assert verdict.series[0].depths == [20, 44]
    assert exclusions(verdict) == [
        "False-56-0 and 2 other runs are not in the verdict: ended by config.stop_below_loss before all steps."
    ]


def test_without_two_depths_there_is_no_verdict(tmp_path):
    write_run(tmp_path / "run")
    write_run(tmp_path / "started", depth=56, status=None)
    assert sentences(judge(read_runs([tmp_path])[0]))[0].startswith("No verdict: it needs finished runs of two depths")


def test_runs_that_are_left_out_for_one_reason_share_a_sentence(tmp_path):
    write_sweep(tmp_path, {False: (0.1, 0.2, 0.3)})
    for seed in range(3):
        write_run(tmp_path / f"other{seed}", 20, False, seed=seed, optimizer__learning_rate=0.2)
    write_run(tmp_path / "unfinished", 20, False, seed=7, status=None)
    assert exclusions(judge(read_runs([tmp_path])[0])) == [
        "unfinished is not in the verdict: unfinished at step 200 of 300.",
        "other0 and 2 other runs are not in the verdict: their recipe differs from most: optimizer.learning_rate 0.2 "
        "instead of 0.05.",
    ]


def test_a_net_whose_seeds_have_equal_errors_is_compared_without_a_warning():
    found = gap(np.array([0.1, 0.1, 0.1]), np.array([0.2, 0.3, 0.4]))
    assert found.difference == pytest.approx(-0.2)
    assert found.interval[0] < -0.2 < found.interval[1]
