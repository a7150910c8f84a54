"""Panels on the inside of nets: each line has the measurements' numbers, each sentence their medians and ranges."""

import re

import numpy as np
import pytest

from resnet_jax.analysis.contrast import deepest_twins
from resnet_jax.analysis.diagnosed import Diagnosed, by_label
from resnet_jax.report import why
from resnet_jax.report.selection import MOST_MEASURED
from tests.analysis.measured import lines, measurement
from tests.analysis.synthetic import nets_in, write_run

NETS = ("plain-20", "plain-56", "residual-20", "residual-56")
# The panel's name, the place of a plot in it, its title, axes and whether y is logarithmic; the measurement, and in
# which unit it is drawn.
PLOTS = [
    ("why_gradients", 0, "step 0", "block", "gradient norm / last block's", True, "gradients", 0, "relative", 1),
    (
        "why_cosines",
        0,
        "step 0",
        "block",
        "mean cosine over pairs of images",
        False,
        "gradients",
        0,
        "cosine_of_net",
        1,
    ),
    ("why_signal", 0, "step 0", "block", "change with other batch-mates", False, "batch_mates", 0, "sensitivity", 1),
    ("why_signal", 1, "step 0", "block", "test error of a linear probe (%)", False, "probes", 0, "test_error", 100),
    ("why_rank", 0, "step 0", "block", "entropy rank of features", True, "feature_rank", 0, "rank", 1),
    ("why_rank", 1, "end", "block", "entropy rank of features", True, "feature_rank", 300, "rank", 1),
    *(
        ("why_deletions", place, title, "deleted block", "test error (%)", False, "deletions", 300, key, 100)
        for place, (title, key) in enumerate(
            (("running statistics", "deleted"), ("statistics of the batch", "deleted_by_batch"))
        )
    ),
    *(
        ("why_branches", place, title, "block", "branch / (branch + shortcut), of variances", False, "branches", *rest)
        for place, (title, *rest) in enumerate((("step 0", 0, "share", 1), ("end", 300, "share", 1)))
    ),
]


def recorded(folder, net, instrument, step, key):
    """Return ``key`` of the measurements of each seed of ``net``, read from its files, ``[seeds, ...]``."""
    found = []
    for seed in range(3):
        for line in lines(folder / f"{net}-seed{seed}" / "diagnosis" / f"{instrument}.jsonl"):
            if line["step"] == step:
                value = line["result"][key]
                found.append(value["test"] if isinstance(value, dict) else value)
    return np.array(found, float)


def panel_of(page, name):
    [panel] = [panel for panel in page.panels if panel.name == name]
    return panel


@pytest.mark.parametrize(("name", "place", "title", "x", "y", "is_log", "instrument", "step", "key", "unit"), PLOTS)
def test_lines_over_blocks_are_the_measurements_of_each_seed_in_the_unit_of_their_axis(
    inside, measured_folder, name, place, title, x, y, is_log, instrument, step, key, unit
):
    plot = panel_of(inside, name).plots[place]
    assert (plot.title, plot.x, plot.y, plot.is_log) == (title, x, y, is_log)
    assert tuple(line.label for line in plot.lines) == NETS
    assert [line.is_dashed for line in plot.lines] == [True, True, False, False]
    for line in plot.lines:
        expected = unit * recorded(measured_folder, line.label, instrument, step, key)
        np.testing.assert_allclose(line.values, expected)
        np.testing.assert_array_equal(line.x, [1, 2, 3, 4])
        assert line.marks == (2, 3)  # Where stages 2 and 3 begin.


def test_panels_are_in_the_order_of_the_argument_and_have_no_plots_but_these(inside):
    assert [(panel.name, len(panel.plots)) for panel in inside.panels] == [
        ("why_loss", 1),
        ("why_gradients", 1),
        ("why_cosines", 1),
        ("why_signal", 2),
        ("why_rank", 2),
        ("why_deletions", 3),
        ("why_branches", 2),
        ("why_responses", 1),
    ]


def test_responses_of_layers_are_sorted_from_the_largest(inside, measured_folder):
    [plot] = panel_of(inside, "why_responses").plots
    assert (plot.x, plot.y) == ("layer, by size", "standard deviation after batch norm")
    for line in plot.lines:
        deviations = recorded(measured_folder, line.label, "responses", 300, "deviation")
        np.testing.assert_allclose(line.values, np.sort(deviations, axis=1)[:, ::-1])
        np.testing.assert_array_equal(line.x, [1, 2, 3, 4])


def test_several_deletions_are_medians_over_draws_in_per_cent(inside):
    plot = panel_of(inside, "why_deletions").plots[-1]
    assert (plot.title, plot.x, plot.y) == ("several at once", "deleted blocks", "test error (%)")
    for line in plot.lines:
        np.testing.assert_array_equal(line.x, [2, 4])
        np.testing.assert_allclose(line.values, [[20, 40]] * 3)  # Of draws 0, k / 10 and 1.


def upper_half(values):
    return np.median(values[:, 2:], axis=1)


@pytest.mark.parametrize(
    ("name", "instrument", "step", "key", "number", "written"),
    [
        ("why_gradients", "gradients", 0, "a_layer", np.ravel, "{:.3f}"),
        ("why_cosines", "gradients", 0, "cosine_of_net", lambda values: values[:, 3], "{:.3f}"),
        ("why_signal", "batch_mates", 0, "sensitivity", lambda values: values[:, -1], "{:.2g}"),
        ("why_signal", "probes", 0, "test_error", lambda values: 100 * values[:, -1], "{:.1f} %"),
        ("why_rank", "feature_rank", 300, "rank", upper_half, "{:.2g}"),
        ("why_deletions", "deletions", 300, "deleted", lambda values: 100 * np.median(values, axis=1), "{:.1f} %"),
        ("why_branches", "branches", 300, "share", upper_half, "{:.2g}"),
        ("why_responses", "responses", 300, "deviation", lambda values: np.median(values, axis=1), "{:.3f}"),
    ],
)
def test_a_sentence_has_medians_and_ranges_over_seeds_of_the_deepest_twins(
    inside, measured_folder, name, instrument, step, key, number, written
):
    said = panel_of(inside, name).says
    medians = []
    for net in ("plain-56", "residual-56"):
        values = number(recorded(measured_folder, net, instrument, step, key))
        median, low, high = (written.format(end) for end in (np.median(values), values.min(), values.max()))
        assert f"{net} {median} ({low} to {high})" in said
        medians.append(re.escape(median))
    assert re.search(rf"(?<![\d.]){medians[0]}(?!\d).*(?<![\d.]){medians[1]}(?!\d).* Median and range over seeds", said)


def test_the_costliest_block_of_each_net_that_works_has_its_range_over_seeds(inside, measured_folder):
    said = panel_of(inside, "why_deletions").says
    for net in NETS:
        last = 100 * recorded(measured_folder, net, "deletions", 300, "deleted")[:, -1]
        assert f"{net} without stage3/block0 {last.min():.1f} % to {last.max():.1f} %" in said


def test_the_foot_names_the_panels_that_were_not_measured(inside):
    assert inside.foot == [
        "Not measured: routes of the gradient (runs of configs/sweeps/digits_routes.py); identity layers (runs of "
        "configs/sweeps/digits_identity.py)."
    ]


def with_result(net, instrument, **changes):
    """Return ``net`` with ``changes`` in the results of ``instrument``."""
    return net._replace(
        measurements=[
            each._replace(result=each.result | changes) if each.instrument == instrument else each
            for each in net.measurements
        ]
    )


def test_deletions_are_compared_where_the_plain_net_works_in_every_seed(measured_nets):
    broken = [
        with_result(net, "deletions", error={"test": 0.9}) if net.name == "plain-56-seed1" else net
        for net in measured_nets
    ]
    said = panel_of(why.page(broken, []), "why_deletions").says
    assert "in plain-20, of " in said
    assert "plain-56 without" not in said
    none = [with_result(net, "deletions", error={"test": 0.9}) for net in measured_nets]
    said = panel_of(why.page(none, []), "why_deletions").says
    assert said.endswith("There are no twins to compare.")


def test_without_twins_each_net_has_its_median(measured_nets):
    page = why.page([net for net in measured_nets if not net.residual], [])
    said = panel_of(page, "why_gradients").says
    assert "layer towards the input: plain-20 10.210, plain-56 10.570." in said
    assert "Before training" not in panel_of(page, "why_signal").says


def test_one_seed_gives_no_difference(measured_nets):
    said = panel_of(why.page([net for net in measured_nets if net.name.endswith("seed0")], []), "why_gradients").says
    assert said.startswith("1 seed, three are needed")
    assert said.endswith("plain-56 10.560, residual-56 2.560.")


def test_seeds_without_a_number_are_left_out_of_a_sentence_and_missing_in_lines(measured_nets):
    nets = [
        with_result(net, "gradients", a_layer=None, relative=[None] * 4) if net.name == "plain-56-seed2" else net
        for net in measured_nets
    ]
    panel = panel_of(why.page(nets, []), "why_gradients")
    assert "plain-56 10.565 (10.560 to 10.570)" in panel.says
    assert np.isnan(panel.plots[0].lines[1].values[2]).all()


@pytest.mark.parametrize(
    ("rank", "said"),
    [
        ([9.0, 9.0, None, 7.0], "Median rank in the upper half at the end: plain-20 7."),
        ([9.0, 9.0, None, None], "There are no twins to compare."),
    ],
)
def test_blocks_without_a_number_do_not_count_in_the_median_of_the_upper_half(rank, said):
    net = Diagnosed("plain-20", False, 20, "run", None, [measurement("feature_rank", {"rank": rank}, 300)])
    assert panel_of(why.page([net], []), "why_rank").says.startswith(said)


def test_nets_that_were_measured_only_at_the_end_are_not_said_to_be_at_the_start():
    def net(residual, seed):
        result = {"relative": [2.0, 1.0, 1.0, 1.0], "cosine_of_net": [0.1] * 4, "a_layer": 1.1 + residual + seed / 100}
        probes = {"test_error": [0.5, 0.4, 0.3, 0.2 + residual / 10 + seed / 100]}
        found = [measurement("gradients", result, 300), measurement("probes", probes, 300)]
        label = "residual-20" if residual else "plain-20"
        return Diagnosed(label, residual, 20, f"{label}-{seed}", None, found)

    page = why.page([net(residual, seed) for residual in (False, True) for seed in range(3)], [])
    gradients = panel_of(page, "why_gradients")
    assert [plot.title for plot in gradients.plots] == ["end"]
    assert gradients.says.startswith("In the trained nets gradients grow by a factor of 1.110 a layer")
    signal = panel_of(page, "why_signal")
    assert [plot.title for plot in signal.plots] == ["end"]
    assert "errs on 21.0 % of test images in plain-20, on 31.0 % in residual-20" in signal.says
    assert "why_cosines" not in [panel.name for panel in page.panels]


def test_nothing_measured_gives_no_panel_and_names_all():
    page = why.page([], [])
    assert (page.panels, page.filters) == ([], {})
    assert page.foot[0].count(";") == 9


def test_of_many_measured_nets_some_are_drawn_and_the_deepest_twins_always():
    def net(residual, depth):
        found = [measurement("feature_rank", {"rank": [1.0, 2.0, 3.0, float(depth)]}, 300)]
        return Diagnosed(f"{'residual' if residual else 'plain'}-{depth}", residual, depth, "run", None, found)

    nets = [net(residual, depth) for residual in (False, True) for depth in range(8, 8 + 6 * 20, 6)]
    nets += [net(True, depth) for depth in range(128, 128 + 6 * 5, 6)]
    page = why.page(nets, [])
    [plot] = panel_of(page, "why_rank").plots
    drawn = [line.label for line in plot.lines]
    assert {seeds[0].label for seeds in deepest_twins(by_label(nets))} == {"plain-122", "residual-122"}
    assert {"plain-122", "residual-122"} <= set(drawn)
    assert MOST_MEASURED <= len(drawn) <= MOST_MEASURED + 2
    assert page.foot[-1] == f"Drawn are {len(drawn)} of 45 measured nets."


def test_filters_are_those_of_the_first_seed_measured_at_the_end(measured_nets):
    result = {"stem_filters": [[[[0.0]]]], "channel_filters": {}}
    channels = [
        measurement("channels", result, step, name=f"seed{seed}") for seed, step in ((1, 300), (2, 300), (0, 0))
    ]
    nets = [net for net in measured_nets if net.label == "plain-20"]
    nets[1:] = [net._replace(measurements=[*net.measurements, *channels[:2]]) for net in nets[1:]]
    nets[0] = nets[0]._replace(measurements=[*nets[0].measurements, channels[2]])
    page = why.page(nets, [])
    assert {label: found.run for label, found in page.filters.items()} == {"plain-20": "seed2"}  # The newest of it.


def test_panels_from_runs_are_of_the_first_study_that_has_them(tmp_path):
    for name, error in (("one", 0.1), ("two", 0.3)):
        write_run(tmp_path / name / "free", 20, True, error)
        write_run(tmp_path / name / "stopped", 20, True, error, gates__route="stop_gradient")
    write_run(tmp_path / "none" / "free", 20, True, 0.5)
    nets = {name: nets_in(tmp_path / name) for name in ("one", "two", "none")}
    page = why.page([], nets["none"], nets["two"], nets["one"])
    assert "residual-20: 30 and 31" in panel_of(page, "why_routes").says
    [loss] = panel_of(page, "why_loss").plots
    assert loss.lines[0].values[0, -1] == pytest.approx(1.0)  # Twice the error of the first study.


def test_measured_weights_have_the_panels_of_runs_apart_from_the_training_loss(measured_nets, inside):
    weights = [net._replace(run=None) for net in measured_nets]
    found = why.page(weights, []).panels
    assert [(panel.name, panel.says) for panel in found] == [(panel.name, panel.says) for panel in inside.panels[1:]]
