"""Findings of a comparison: what is judged, compared, drawn and left out, for plain and tuned sweeps."""

import json
import pathlib

import numpy as np
import pytest

from resnet_jax.analysis.gap import gap
from resnet_jax.analysis.runs import read_runs
from resnet_jax.errors import UserError
from resnet_jax.report.findings import (
    find,
    judge_runs,
    nets_of_study,
    not_started,
    ordered_nets,
    reference_series,
    tuned_field,
)
from tests.analysis.synthetic import KAPPA, nets_in, write_exponentials, write_run, write_seeds

RATE = "optimizer.learning_rate"
HE = "He et al. 2015, figure 6"


def labels(found):
    return [label.get_text() for label in found.figures["nets"].axes[0].get_yticklabels()]


def test_errors_over_depth_are_a_figure_from_three_depths_up(tmp_path):
    write_run(tmp_path / "a", 20)
    write_run(tmp_path / "b", 56)
    assert list(find(read_runs([tmp_path])[0]).figures) == ["nets", "curves"]
    write_run(tmp_path / "c", 110)
    assert list(find(read_runs([tmp_path])[0]).figures) == ["nets", "depths", "curves"]


def test_figures_begin_with_the_reference_of_the_sweep(tmp_path):
    write_run(tmp_path / "a", 20, residual=False)
    write_run(tmp_path / "b", 20, residual=True)
    write_run(tmp_path / "c", 20, residual=True, model__order="preactivation")
    runs, _ = read_runs([tmp_path])
    assert labels(find(runs)) == ["plain-20", "residual-20", "preact residual-20"]
    sweep = {"runs": ["c", "a", "b"]}
    found = find(runs, [sweep])
    assert labels(found) == ["preact residual-20", "plain-20", "residual-20"]
    titles = [panel.get_title() for panel in found.figures["curves"].axes]
    assert titles == ["preact residual nets", "plain nets", "residual nets"]
    assert [net.label for net in ordered_nets(runs, [sweep])] == labels(found)


def test_the_reference_is_the_series_of_the_first_run_that_was_read_of_a_single_sweep(tmp_path):
    write_run(tmp_path / "a", 20, False)
    write_run(tmp_path / "b", 20, True)
    nets = nets_in(tmp_path)
    assert reference_series(nets, [{"runs": ["b", "a"]}]) == "residual"
    assert reference_series(nets, [{"runs": ["not started", "b", "a"]}]) == "residual"
    assert reference_series(nets, [{"runs": ["b"]}, {"runs": ["a"]}]) is None
    assert reference_series(nets, []) is None
    assert reference_series([], [{"runs": ["a"]}]) is None


def test_a_net_that_diverges_at_every_tuned_value_is_drawn_as_diverged(tmp_path):
    for rate in (0.01, 0.1):
        fields = {"optimizer__learning_rate": rate, "validation": 0.1}
        write_run(tmp_path / f"shallow-{rate}", 20, error=0.1, **fields)
        write_run(tmp_path / f"deep-{rate}", 56, error=0.5, status="diverged", **fields)
    found = find(read_runs([tmp_path])[0], tuned=(RATE, 0.1))
    assert labels(found) == ["plain-20", "plain-56"]
    assert [text.get_text() for text in found.figures["nets"].axes[0].texts] == ["diverged at step 200"]
    crosses = [line for line in found.figures["curves"].axes[0].lines if line.get_marker() == "x"]
    assert len(crosses) == 2
    assert [net.label for net in found.judged.nets] == ["plain-20"]  # The verdict has no error of the other.


def write_twins(folder, plain=((0.1, 0.11, 0.12), (0.4, 0.41, 0.42)), residual=((0.1, 0.11, 0.12),) * 2, **fields):
    """Write plain and residual nets of 20 and 56 layers; ``plain`` and ``residual`` have errors of seeds by depth."""
    for is_residual, errors in ((False, plain), (True, residual)):
        for depth, seeds in zip((20, 56), errors, strict=True):
            write_seeds(folder, depth, is_residual, seeds, **fields)
    return read_runs([folder])[0]


def test_the_verdict_is_on_depth_and_on_the_deepest_twins_with_the_gaps_of_the_records(tmp_path):
    judged = judge_runs(write_twins(tmp_path), {})
    assert [each.name for each in judged.statements] == [
        "plain, 20 / 56 layers",
        "residual, 20 / 56 layers",
        "residual-56 / plain-56",
    ]
    assert [each.gap.difference for each in judged.statements] == pytest.approx([0.3, 0, 0.3])
    expected = gap([0.4, 0.41, 0.42], [0.1, 0.11, 0.12])
    np.testing.assert_allclose(judged.statements[2].gap.interval, expected.interval)
    assert len(judged.verdict) == 3
    assert judged.verdict[2].startswith("plain-56 against residual-56: higher, +30.00 points")
    [section] = judged.sections
    assert [row["net"] for row in section.rows] == [each.name for each in judged.statements]
    assert (judged.literature, judged.left_out, judged.undecided) == ([], [], [])


def test_verdicts_are_compared_with_the_claims_of_the_sweeps(tmp_path):
    runs = write_twins(tmp_path)
    sweeps = [{"runs": [], "literature": {"plain": ["degrades", HE]}}, {"runs": [], "literature": {"residual": []}}]
    sweeps[1]["literature"] = {"residual": ["degrades", "B"], "absent": ["degrades", "C"]}
    found = find(runs, sweeps)
    assert [each.result for each in found.judged.literature] == ["agrees", "open"]


def test_without_a_verdict_there_is_no_table_of_verdicts(tmp_path):
    write_run(tmp_path / "run", 20)
    write_run(tmp_path / "started", 56, status=None)
    found = find(read_runs([tmp_path])[0])
    assert found.judged.sections == []
    assert [section.title for section in found.sections] == ["Net by net"]
    assert found.judged.left_out == ["started is not in the verdict: unfinished at step 200 of 300."]


def test_a_tuned_sweep_has_both_verdicts_twins_at_the_best_value_and_a_table_of_choices(tmp_path):
    for rate, residual in ((0.01, (0.2, 0.2, 0.21)), (0.1, (0.1, 0.11, 0.12))):
        fields = {"optimizer__learning_rate": rate, "validation": 0.5 - rate}
        write_twins(tmp_path / f"{rate}", residual=(residual, residual), **fields)
    judged = judge_runs(read_runs([tmp_path])[0], {}, (RATE, 0.01))
    clauses = ("at learning rate 0.01", "at the best learning rate tried")
    assert [(each.name.partition(",")[0], each.where) for each in judged.statements] == [
        *(("plain", clauses[0]), ("residual", clauses[0]), ("plain", clauses[1]), ("residual", clauses[1])),
        ("residual-56 / plain-56", clauses[1]),
    ]
    # The best rate is 0.1, where the residual net has 10 to 12 %.
    assert judged.statements[-1].gap.others == pytest.approx((0.1, 0.11, 0.12))
    assert judged.sections[0].rows[0]["0.1"].endswith(" *")
    assert [net.label for net in judged.nets] == ["plain-20", "plain-56", "residual-20", "residual-56"]


def test_differences_from_the_reference_leave_out_the_twins_of_the_verdict(tmp_path):
    runs = write_twins(tmp_path)
    write_seeds(tmp_path / "more", 56, True, (0.3, 0.31, 0.32), gates__route="stop_gradient")
    runs = read_runs([tmp_path])[0]
    found = find(runs, [{"runs": ["True-20-0"]}])
    [section] = [section for section in found.sections if section.title == "Net by net"]
    assert [text.partition(":")[0] for text in section.texts] == [
        "plain-20 against residual-20",
        "residual-56, route stop_gradient against residual-56",
    ]
    assert find(runs).sections[-1].texts == []  # Without a sweep there is no reference.


def test_rates_are_measured_where_thresholds_are_given(tmp_path):
    write_exponentials(tmp_path, steps=600)
    runs = read_runs([tmp_path])[0]
    found = find(runs, thresholds=[1.0])
    assert list(found.figures)[-1] == "rates"
    section = found.sections[-1]
    assert section.title == "Convergence rates"
    factor = float(section.rows[0]["steps"].split()[0])
    assert factor == pytest.approx(np.exp(10 * KAPPA), abs=0.01)
    assert json.dumps(found.rates, allow_nan=False)
    assert found.rates["growths"][0]["steps"]["factor"] == pytest.approx(factor, abs=0.005)
    assert "rates" not in find(runs).figures
    assert find(runs).rates is None


def test_the_error_axes_are_logarithmic_where_asked_for(tmp_path):
    for depth in (20, 56, 110):
        write_run(tmp_path / f"{depth}", depth)
    found = find(read_runs([tmp_path])[0], log_scale=True)
    scales = {"nets": "get_xscale", "depths": "get_yscale", "curves": "get_yscale"}
    assert {getattr(found.figures[name].axes[0], scale)() for name, scale in scales.items()} == {"symlog"}


SWEEPS = [{"tuned": {RATE: 0.1}}, {"tuned": {RATE: 0.1}}, {}]


@pytest.mark.parametrize(
    ("text", "sweeps", "found"),
    [
        (None, [], None),
        (None, SWEEPS, (RATE, 0.1)),
        (RATE, [], (RATE, None)),
        (RATE, SWEEPS, (RATE, 0.1)),
        (f"config.{RATE}=0.3", SWEEPS, (RATE, 0.3)),
        ("optimizer.momentum", SWEEPS, ("optimizer.momentum", None)),
        (f"{RATE}=1e-3", [], (RATE, 0.001)),
    ],
)
def test_the_tuned_field_is_the_flag_or_the_one_of_the_sweeps(text, sweeps, found):
    assert tuned_field(text, sweeps) == found


@pytest.mark.parametrize("value", ["", "high", "0.1=0.2"])
def test_a_common_value_that_is_not_a_number_is_refused(value):
    with pytest.raises(UserError, match="is not a number"):
        tuned_field(f"{RATE}={value}", [])


def test_sweeps_that_tune_different_things_need_a_choice():
    sweeps = [{"tuned": {RATE: 0.1}}, {"tuned": {RATE: 0.3}}]
    with pytest.raises(UserError, match=rf"{RATE} around 0\.1, {RATE} around 0\.3; compare one, or give --tuned"):
        tuned_field(None, sweeps)
    assert tuned_field(f"{RATE}=0.3", sweeps) == (RATE, 0.3)


def test_runs_that_have_not_started_are_named_by_sweep(tmp_path):
    write_run(tmp_path / "a")
    whole, lacking = {"runs": {"a": {}}}, {"runs": {"a": {}, "b": {}, "c": {}}}
    [sentence] = not_started({tmp_path: lacking})
    assert sentence == f"2 of 3 runs of {tmp_path} have not started: b, c."
    assert not_started({tmp_path: whole}) == []
    assert not_started({pathlib.Path("nowhere"): whole}) == ["1 of 1 runs of nowhere have not started: a."]


def test_nets_of_a_tuned_study_are_at_their_own_best(tmp_path):
    for rate, error in ((0.01, 0.3), (0.1, 0.2)):
        write_run(tmp_path / f"{rate}", error=error, validation=error, optimizer__learning_rate=rate)
    runs = read_runs([tmp_path])[0]
    [net] = nets_of_study(runs, {"tuned": {RATE: 0.01}})
    assert net.label == "plain-20"
    assert net.runs[0].final("train_clean") == pytest.approx(0.2)
    for sweep in (None, {"tuned": {}}, {}):
        assert [each.label for each in nets_of_study(runs, sweep)] == [
            "plain-20, learning_rate 0.01",
            "plain-20, learning_rate 0.1",
        ]
