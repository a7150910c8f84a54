"""The table of what was reproduced: each value follows from made-up records, or from the formula of the net."""

import json
import statistics

import numpy as np
import pytest

from configs import recipes
from resnet_jax.errors import UserError
from resnet_jax.report import reproduced
from tests.analysis.measured import measure
from tests.analysis.synthetic import KAPPA, write_exponentials, write_run, write_seeds


def test_degradation_is_in_points_with_its_interval_and_each_seed(tmp_path):
    write_seeds(tmp_path, 20, False, (0.1, 0.11, 0.12))
    write_seeds(tmp_path, 56, False, (0.4, 0.41, 0.42))
    write_seeds(tmp_path, 20, True, (0.1, 0.11, 0.12))
    write_seeds(tmp_path, 56, True, (0.05, 0.06, 0.07))
    text = reproduced.degradation(tmp_path, "plain")
    # Welch: both variances are 1e-4, with 4 degrees of freedom the quantile is 2.776.
    half = 2.7764 * np.sqrt(2 * 1e-4 / 3) * 100
    interval = f"(95 % interval {30 - half:.2f} to {30 + half:.2f}, 3 seeds, p = "
    assert text.startswith(f"+30.00 points: 40.0, 41.0, 42.0 % against 10.0, 11.0, 12.0 % {interval}")
    assert reproduced.degradation(tmp_path, "residual").startswith("-5.00 points: 5.00, 6.00, 7.00 % against 10.0")


def test_the_running_gap_is_the_mean_over_the_last_records_that_both_nets_have(tmp_path):
    write_run(tmp_path / "20", 20, False, 0.1, records=30)
    write_run(tmp_path / "56", 56, False, 0.4, records=30, status=None)
    write_run(tmp_path / "residual", 56, True, 0.0, records=30)
    # At record k of 30 errors have fallen from 0.9 by k / 30 of the way; plain-56 has 16 records.
    share = sum(range(7, 17)) / 10 / 30
    assert reproduced.running_gap(tmp_path, 20, 56) == f"{30 * share:+.1f} points before step 160 of 300 (1 seed)"


def test_final_errors_are_those_of_finished_nets_that_are_published(tmp_path):
    write_run(tmp_path / "published", 20, True, 0.08, data__name="cifar10")
    write_run(tmp_path / "unpublished", 20, False, 0.08, data__name="cifar10")
    write_run(tmp_path / "unfinished", 56, True, 0.08, status=None, data__name="cifar10")
    (row,) = reproduced.final_errors(tmp_path)
    assert row.what == "test error of residual-20 after 300 steps, CIFAR-10"
    assert row.published == "8.75 % (He et al. 2015, table 6)"
    assert (row.here, row.record) == ("9.00 % (1 seed)", f"{tmp_path.name}/README.md")
    write_run(tmp_path / "second", 20, True, 0.06, seed=1, data__name="cifar10")
    (row,) = reproduced.final_errors(tmp_path)
    assert row.here == "8.00 % (2 seeds)"  # The mean of 9 and 7.


def write_evaluation(folder, *nets):
    folder.mkdir()
    file = folder / "evaluation.json"
    file.write_text(json.dumps({"nets": [{"net": name, "top1_error": error} for name, error in nets]}))
    return file


def test_errors_of_published_weights_are_next_to_those_evaluated(tmp_path):
    file = write_evaluation(tmp_path / "weights", ("residual-20", 0.0827), ("residual-56", 0.07), ("2 nets", 0.05))
    rows = list(reproduced.evaluated(file, (8.27, 6.61)))
    assert [(row.published.partition(" (")[0], row.here) for row in rows] == [
        ("8.27 %", "8.27 %"),
        ("6.61 %", "7.00 %"),
    ]
    assert ["residual-20" in rows[0].what, "residual-56" in rows[1].what] == [True, True]
    assert {row.record for row in rows} == {"weights/evaluation.json"}


@pytest.mark.parametrize("error", [-0.1, 1.5, None, "0.1"])
def test_an_evaluation_without_an_error_is_refused(error, tmp_path):
    file = write_evaluation(tmp_path / "weights", ("residual-20", error))
    with pytest.raises(UserError, match=r"evaluation\.json is damaged: nets\[0\]\.top1_error"):
        list(reproduced.evaluated(file, (8.27,)))


def test_growth_of_gradients_is_the_median_and_range_over_seeds_of_the_net(tmp_path):
    factors = []
    for seed, size in enumerate((1.5, 1.1, 1.2)):
        measure(write_run(tmp_path / f"56-{seed}", 56, False, seed=seed), False, 56, seed, size)
        measure(write_run(tmp_path / f"20-{seed}", 20, False, seed=seed), False, 20, seed, 9.0)
        factors.append(size + 0.01 * seed)
    assert reproduced.growth_of_gradients(tmp_path, "plain-56") == (
        f"{statistics.median(factors):.3f} with 56 layers ({min(factors):.3f} to {max(factors):.3f})"
    )


def test_growth_of_steps_is_per_ten_layers_at_each_rate_and_left_out_where_no_law_is_fitted(tmp_path):
    for rate, kappa in ((0.003, KAPPA), (0.01, 2 * KAPPA)):
        write_exponentials(tmp_path / f"{rate}", kappa=kappa, steps=1000, optimizer__learning_rate=rate)
    text = reproduced.growth_of_steps(tmp_path, (0.003, 0.01), 1.0)
    first, second = text.split(", at a rate of 0.01 ")
    assert first.startswith(f"at a rate of 0.003 times {np.exp(10 * KAPPA):.2f} (95 % interval ")
    assert first.endswith(" up to 56 layers")
    assert second.startswith(f"times {np.exp(20 * KAPPA):.2f} (95 % interval ")
    # At the higher kappa the deepest nets do not reach a loss of 1 in 1,000 steps.
    deepest = max(d for d in (8, 14, 20, 26, 32, 38, 44, 56) if 20 * np.exp(2 * KAPPA * d) * np.log(2.3) < 1000)
    assert second.endswith(f" up to {deepest} layers")
    assert reproduced.growth_of_steps(tmp_path, (0.003, 0.01), 1e-9) == ""


def cifar_parameters(depth):
    """Return the parameters of a residual net on CIFAR-10 without weights in shortcuts: He et al. 2015, section 4.2."""
    blocks = (depth - 2) // 6
    count = 9 * 3 * 16 + 2 * 16 + 64 * 10 + 10
    for width, before in ((16, 16), (32, 16), (64, 32)):
        inputs = [before] + [width] * (2 * blocks - 1)
        count += sum(9 * each * width + 2 * width for each in inputs)
    return count


def imagenet_34_multiply_adds():
    """Return the multiply-adds of the 34-layer net of table 1; shortcuts have no weights."""
    count = 112**2 * 49 * 3 * 64 + 512 * 1000
    for blocks, width, before, size in ((3, 64, 64, 56), (4, 128, 64, 28), (6, 256, 128, 14), (3, 512, 256, 7)):
        inputs = [before] + [width] * (2 * blocks - 1)
        count += size**2 * 9 * width * sum(inputs)
    return count


@pytest.mark.parametrize("depth", [20, 56, 110])
def test_parameters_are_those_of_the_formula(depth):
    assert reproduced.cost(recipes.cifar(depth, True), 32)[0] == cifar_parameters(depth)


def test_multiply_adds_are_those_of_the_formula():
    assert reproduced.cost(recipes.imagenet(34, True), 224)[1] == imagenet_34_multiply_adds()


def test_rows_link_to_their_records_and_show_names_as_text():
    rows = [
        reproduced.Reproduced("a | b", "1 % (x)", "2 % [y]", "study/README.md"),
        reproduced.Reproduced("shapes", "3", "4", None),
    ]
    assert reproduced.reproduced_table(rows, "results").splitlines() == [
        "|  | published | here |",
        "| --- | --- | --- |",
        r"| a \| b | 1 % (x) | [2 % \[y\]](results/study/README.md) |",
        "| shapes | 3 | 4 |",
    ]
