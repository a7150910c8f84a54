"""The verdict on runs, against curves with known gaps."""

import json

import numpy as np
import pytest

from resnet_jax.analysis.gap import gap
from resnet_jax.analysis.runs import read_runs
from resnet_jax.analysis.verdict import Statement, exclusions, judge, sentences, statements, table, table_caption
from tests.analysis.synthetic import write_run


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
    stated = statements(judge(read_runs([tmp_path])[0]), "at 0.1")
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


@pytest.mark.parametrize(
    ("deep", "shallow", "brief"),
    [
        ((0.4, 0.41, 0.42), (0.1, 0.11, 0.12), "degrades, +30.00 (27.73 to 32.27)"),
        ((0.5,), (0.1,), "not judged (+40.00 points, 1 seed)"),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), "both at 0 %"),
        ((0.1, 0.1, 0.1), (0.2, 0.2, 0.2), "not judged (-10.00 points, 3 seeds without scatter)"),
    ],
)
def test_a_brief_verdict_has_the_gap_and_its_interval_or_why_there_is_none(deep, shallow, brief):
    found = gap(deep, shallow)
    assert Statement("a", found, found.word).brief == brief


def test_the_table_has_no_p_value_where_there_is_no_interval(tmp_path):
    write_sweep(tmp_path, {False: (0.1, 0.15, 0.18)}, seeds=1)
    stated = statements(judge(read_runs([tmp_path])[0]))
    [row] = table(stated)
    assert (row["verdict"], row["gap (points)"], row["95 % interval"], row["p"], row["Holm p"]) == (
        *("not judged", "+8.00", "", "", ""),
    )
    assert "Holm" not in table_caption(stated)
    assert table([]) == []


def test_runs_of_another_recipe_are_not_named_where_there_is_no_verdict(tmp_path):
    for rate in (0.01, 0.1):
        write_run(tmp_path / f"{rate}", optimizer__learning_rate=rate)
    write_run(tmp_path / "again", seed=1, optimizer__learning_rate=0.1)
    assert judge(read_runs([tmp_path])[0]) == ([], [])
