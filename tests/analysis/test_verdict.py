"""The verdict, against scipy, closed forms and curves with known gaps."""

import json

import numpy as np
import pytest
from scipy import stats

from resnet_jax.analysis.runs import read_runs
from resnet_jax.analysis.verdict import exclusions, gap, judge, sentences
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
    np.testing.assert_allclose([low, high], [difference - width, difference + width], atol=0.1 * width)


def test_the_interval_is_wider_than_the_plain_percentile_bootstrap_with_few_seeds():
    deep, shallow = errors(0.13, 0.01, 4), errors(0.1, 0.01, 4, seed=1)
    low, high = gap(deep, shallow).interval
    plain = stats.bootstrap(
        (deep, shallow),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert low < plain.low < plain.high < high


@pytest.mark.parametrize(("seeds", "least", "most"), [(3, 0.82, 0.97), (5, 0.92, 0.985), (10, 0.92, 0.98)])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(seeds, least, most):
    random = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        low, high = gap(random.normal(0.13, 0.01, seeds), random.normal(0.1, 0.01, seeds)).interval
        held += low <= 0.03 <= high
    print(f"{seeds} seeds: a 95 % interval held the truth in {held} of 1000 simulated sweeps")
    assert least < held / 1000 < most


def test_where_no_depth_matters_degradation_is_rarely_said():
    random = np.random.default_rng(1)
    said = sum(gap(random.normal(0.1, 0.01, 3), random.normal(0.1, 0.01, 3)).sign == 1 for _ in range(1000))
    print(f"3 seeds: degradation was said in {said} of 1000 simulated sweeps without any")
    assert said < 40


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_or_two_seeds_support_no_interval(seeds):
    result = gap(np.full(seeds, 0.5), np.full(seeds, 0.1))
    assert (result.interval, result.p_value, result.sign) == (None, None, 1)


def test_seeds_that_all_agree_have_an_interval_without_width():
    result = gap(np.full(3, 0.5), np.full(3, 0.25))
    assert (result.interval, result.p_value, result.sign) == ((0.25, 0.25), None, 1)
    assert gap(np.zeros(3), np.zeros(3)).sign == -1


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
    assert said[0].startswith("plain: degrades, +8.00 points of training error from 20 to 56 layers (95 % interval 7.")
    assert "3 seeds, Welch p = " in said[0]
    assert "so this is degradation, not overfitting" in said[0]
    assert said[1].startswith("plain, depth by depth: 20 to 44 +5.00 points (95 % interval")
    assert said[2].startswith("residual: does not degrade, -2.00 points of training error")
    assert verdict.left_out == []


def test_a_gap_within_the_scatter_of_seeds_is_inconclusive(tmp_path):
    write_sweep(tmp_path, {False: (0.1, 0.1, 0.101)}, spread=0.02)
    (sentence, _) = sentences(judge(read_runs([tmp_path])[0]))
    assert sentence.startswith("plain: inconclusive, +0.10 points")


def test_a_gap_in_test_error_only_is_called_overfitting(tmp_path):
    write_sweep(tmp_path, {False: (0.1, 0.1, 0.1)}, spread=0.0)
    for summary in tmp_path.glob("*-56-*/summary.json"):
        content = json.loads(summary.read_text())
        content["final"]["test"]["error"] = 0.3
        summary.write_text(json.dumps(content))
    sentence = sentences(judge(read_runs([tmp_path])[0]))[0]
    assert "does not degrade" in sentence
    assert "overfitting, not degradation" in sentence


def test_a_gap_that_is_certain_in_test_error_alone_is_not_called_overfitting_while_that_in_training_is_open(tmp_path):
    write_sweep(tmp_path, {False: (0.1, 0.1, 0.101)}, spread=0.02)
    for seed, summary in enumerate(sorted(tmp_path.glob("*-56-*/summary.json"))):
        content = json.loads(summary.read_text())
        content["final"]["test"]["error"] = 0.3 + 0.01 * seed
        summary.write_text(json.dumps(content))
    sentence = sentences(judge(read_runs([tmp_path])[0]))[0]
    assert sentence.startswith("plain: inconclusive")
    assert sentence.endswith("points; that gap is certain, the one in training error is not.")


def test_one_seed_gives_no_interval(tmp_path):
    write_sweep(tmp_path, {False: (0.1, 0.15, 0.18)}, seeds=1)
    sentence = sentences(judge(read_runs([tmp_path])[0]))[0]
    assert sentence.startswith(
        "plain: degrades, +8.00 points of training error from 20 to 56 layers (1 seed, an interval needs 3)"
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
