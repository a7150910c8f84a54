"""Each net at its own best value: what is chosen, from which runs, and what is said."""

import math

import numpy as np
import pytest

from resnet_jax.analysis.runs import read_runs
from resnet_jax.analysis.tuning import (
    Candidate,
    choice_rows,
    choice_sentence,
    decide,
    left_out,
    tune,
    verdict_sentences,
)
from resnet_jax.errors import UserError
from tests.analysis.synthetic import write_run

FIELD = "optimizer.learning_rate"


def write_net(folder, depth, errors, seeds=3, diverged=(), **fields):
    """Write runs of a net; ``errors`` give training and validation error at each rate, ``diverged`` rate and seed."""
    for rate, (training, validation) in errors.items():
        for seed in range(seeds):
            status = "diverged" if (rate, seed) in diverged else "finished"
            more = 0.001 * (seed - (seeds - 1) / 2)
            write_run(
                folder / f"{depth}-{rate}-{seed}",
                depth,
                error=training + more,
                seed=seed,
                status=status,
                validation=validation + more,
                optimizer__learning_rate=rate,
                **fields,
            )


def tuned(folder, common=0.1):
    return tune(read_runs([folder])[0], FIELD, common)


def candidates(*figures, seeds=3):
    """Return candidates of (value, finished seeds, validation error, validation loss)."""
    return [
        Candidate(value, [], seeds - finished, [error] * finished, loss if finished else math.inf)
        for value, finished, error, loss in figures
    ]


def test_each_net_is_judged_at_its_own_best_and_all_at_the_common_value(tmp_path):
    # At the common rate the deeper net seems to degrade; at its own best it does not.
    write_net(tmp_path, 20, {0.01: (0.3, 0.35), 0.03: (0.2, 0.25), 0.1: (0.1, 0.15)})
    write_net(tmp_path, 56, {0.01: (0.3, 0.35), 0.03: (0.08, 0.2), 0.1: (0.7, 0.75)})
    tuning = tuned(tmp_path)
    assert [(choice.net, choice.chosen.value) for choice in tuning.choices] == [("plain-20", 0.1), ("plain-56", 0.03)]
    assert tuning.at_common.series[0].whole.difference == pytest.approx(0.6)
    assert tuning.at_best.series[0].whole.difference == pytest.approx(-0.02)
    assert [net.label for net in tuning.nets] == ["plain-20", "plain-56"]
    said = verdict_sentences(tuning)
    assert said[0].startswith(
        "All nets at learning rate 0.1: plain, 20 to 56 layers: degrades, +60.00 points of training error"
    )
    assert said[1].startswith(
        "Each net at the best learning rate of those tried: plain, 20 to 56 layers: does not degrade, -2.00 points"
    )
    assert said[2].startswith("plain-20: best learning rate 0.1 of 0.01, 0.03, 0.1, at the edge of the grid: a wider")
    assert said[3] == "plain-56: best learning rate 0.03 of 0.01, 0.03, 0.1."
    assert choice_rows(tuning)[0] == {
        "net": "plain-20",
        "0.01": "35.0 (34.9, 35.0, 35.1)",
        "0.03": "25.0 (24.9, 25.0, 25.1)",
        "0.1": "15.0 (14.9, 15.0, 15.1) *",
    }


def test_the_choice_is_by_validation_error_and_not_by_training_or_test_error(tmp_path):
    write_net(tmp_path, 20, {0.01: (0.3, 0.1), 0.1: (0.0, 0.2)})
    write_net(tmp_path, 56, {0.01: (0.3, 0.1), 0.1: (0.0, 0.2)})
    tuning = tuned(tmp_path)
    assert {choice.chosen.value for choice in tuning.choices} == {0.01}
    assert tuning.nets[0].runs[0].final("train_clean") == pytest.approx(0.299)


def test_a_value_with_a_diverged_run_is_worse_than_any_whose_runs_have_finished(tmp_path):
    write_net(tmp_path, 20, {0.03: (0.5, 0.6), 0.1: (0.1, 0.1)}, diverged=[(0.1, 2)])
    write_net(tmp_path, 56, {0.03: (0.5, 0.6), 0.1: (0.1, 0.1)}, diverged=[(0.1, seed) for seed in range(3)])
    tuning = tuned(tmp_path)
    assert {choice.chosen.value for choice in tuning.choices} == {0.03}
    assert "(1 of 3 diverged at 0.1)" in choice_sentence(tuning.choices[0], FIELD)
    assert choice_rows(tuning)[0]["0.1"] == "9.95 (9.90, 10.0) (1 missing)"
    assert choice_rows(tuning)[1]["0.1"] == "no finished run (3 missing)"
    assert "20-0.1-2 and 3 other runs are not in the verdict: diverged at step 200." in left_out(tuning)


def test_without_a_complete_value_the_one_with_most_finished_seeds_is_chosen():
    choice = decide("net", candidates((0.01, 1, 0.1, 1.0), (0.03, 2, 0.3, 1.0), (0.1, 0, 0.0, 0.0)), 0.1)
    assert choice.chosen.value == 0.03


def test_a_net_without_a_finished_run_is_named_and_the_others_are_judged(tmp_path):
    write_net(tmp_path, 20, {0.03: (0.1, 0.1), 0.1: (0.2, 0.2)})
    write_net(tmp_path, 56, {0.03: (0.1, 0.1), 0.1: (0.2, 0.2)})
    write_net(tmp_path, 110, {0.1: (0.2, 0.2)}, diverged=[(0.1, seed) for seed in range(3)])
    said = verdict_sentences(tuned(tmp_path))
    assert any("plain, 20 to 56 layers" in sentence for sentence in said)
    assert said[-1] == (
        "plain-110 is not in the verdict at best values: no run of it has finished (3 of 3 diverged at 0.1)."
    )


def test_a_seed_that_has_not_started_at_a_value_counts_as_missing(tmp_path):
    write_net(tmp_path, 20, {0.03: (0.1, 0.2)})
    write_net(tmp_path, 20, {0.1: (0.1, 0.1)}, seeds=2)
    write_run(tmp_path / "late", 20, seed=2, status=None, validation=0.1, optimizer__learning_rate=0.05)
    (choice,) = tuned(tmp_path).choices
    assert choice.chosen.value == 0.03
    sentence = choice_sentence(choice, FIELD)
    assert "1 of 3 not started at 0.1" in sentence
    assert "1 of 3 unfinished at 0.05; 2 of 3 not started at 0.05" in sentence


@pytest.mark.parametrize(
    ("figures", "common", "value", "why"),
    [
        ([(0.01, 3, 0.2, 0.9), (0.1, 3, 0.2, 0.8)], 0.01, 0.1, "the smaller validation loss decides"),
        ([(0.01, 3, 0.2, 0.9), (0.1, 3, 0.2, 0.9)], 0.08, 0.1, "the smaller distance from the common value decides"),
        ([(0.01, 3, 0.2, 0.9), (0.1, 3, 0.2, 0.9)], None, 0.01, "the smaller value decides"),
        ([(0.0, 3, 0.2, 0.9), (0.1, 3, 0.2, 0.9)], 0.05, 0.1, "the smaller distance from the common value decides"),
        ([(0.01, 3, 0.1, 0.9), (0.1, 3, 0.2, 0.8)], 0.1, 0.01, ""),
    ],
)
def test_ties_are_broken_by_loss_then_distance_then_value_and_said(figures, common, value, why):
    choice = decide("net", candidates(*figures), common)
    assert choice.chosen.value == value
    assert choice.tie.endswith(why)
    assert bool(choice.tie) == bool(why)
    assert why in choice_sentence(choice, FIELD)


def test_a_single_value_is_called_so_and_not_an_edge():
    choice = decide("net", candidates((0.1, 3, 0.2, 0.9)), 0.1)
    assert choice_sentence(choice, FIELD) == "net: best learning rate 0.1 of 0.1, which is the only one."


def test_a_common_value_that_no_run_has_or_that_is_not_known_is_said(tmp_path):
    write_net(tmp_path, 20, {0.03: (0.1, 0.2), 0.3: (0.1, 0.1)})
    assert tuned(tmp_path).at_common is None
    assert "The common learning rate 0.1 is not among the runs, so there is no verdict at it." in verdict_sentences(
        tuned(tmp_path)
    )
    assert any(
        f"give --tuned={FIELD}=VALUE" in sentence for sentence in verdict_sentences(tuned(tmp_path, common=None))
    )


def test_runs_of_another_recipe_are_left_out_as_without_tuning(tmp_path):
    write_net(tmp_path / "a", 20, {0.03: (0.1, 0.2), 0.1: (0.1, 0.1)})
    write_net(tmp_path / "a", 56, {0.03: (0.1, 0.2), 0.1: (0.1, 0.1)})
    write_net(tmp_path / "b", 56, {0.1: (0.1, 0.1)}, steps=600)
    tuning = tuned(tmp_path)
    assert {choice.net for choice in tuning.choices} == {
        "plain-20, steps 300",
        "plain-56, steps 300",
        "plain-56, steps 600",
    }
    assert any("their recipe differs from most: steps 600 instead of 300" in sentence for sentence in left_out(tuning))


def test_what_cannot_be_tuned_is_refused(tmp_path):
    run = read_runs([write_run(tmp_path / "run", validation=0.1)])[0]
    with pytest.raises(UserError, match=r"model\.depth cannot be tuned; give a number of the optimizer"):
        tune(run, "model.depth", None)
    with pytest.raises(UserError, match=r"seed cannot be tuned"):
        tune(run, "seed", None)
    write_run(tmp_path / "without")
    with pytest.raises(UserError, match=r"without has no validation error, by which the best .* is chosen"):
        tuned(tmp_path)
    write_run(tmp_path / "one" / "started", status=None, validation=0.1)
    with pytest.raises(UserError, match=r"no run has finished yet"):
        tuned(tmp_path / "one")


def test_of_many_simulated_nets_the_best_rate_is_chosen_as_often_as_noise_allows():
    random = np.random.default_rng(0)
    means = np.array([0.13, 0.1, 0.13])
    right = diverged = 0
    for _ in range(500):
        errors = random.normal(means[:, None], 0.01, (3, 3))
        finished = np.array([[True] * 3, [True] * 3, random.random(3) > 0.3])
        found = [
            Candidate(value, [], int(3 - done.sum()), each[done].tolist(), 1.0)
            for value, each, done in zip((0.01, 0.03, 0.1), errors, finished, strict=True)
        ]
        chosen = decide("net", found, 0.03).chosen
        right += chosen.value == 0.03
        diverged += chosen.missing > 0
    assert right > 490
    assert diverged == 0
