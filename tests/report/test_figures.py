"""Figures: what is drawn, in which colour and how it is named."""

import numpy as np
import pytest

from resnet_jax.analysis.censored import ABOVE, BELOW, EXACT
from resnet_jax.analysis.rates import Reach, growth
from resnet_jax.analysis.runs import read_run, read_runs
from resnet_jax.analysis.verdict import judge
from resnet_jax.report import figures
from tests.analysis.synthetic import nets_in, set_losses, write_run, write_seeds
from tests.report.drawn import band_of, legend_of


@pytest.fixture
def nets(tmp_path):
    for residual, errors in ((False, {20: 0.1, 56: 0.7}), (True, {20: 0.2, 56: 0.05})):
        for depth, error in errors.items():
            for seed, more in enumerate((-0.01, 0.01)):
                write_run(tmp_path / f"{residual}-{depth}-{seed}", depth, residual, error + more, seed)
    return nets_in(tmp_path)


def test_a_curve_of_seeds_has_their_mean_and_range(nets):
    steps, means, lows, highs = figures.curve_of_seeds(nets[0], "train")
    np.testing.assert_array_equal(steps, [100, 200, 300])
    assert (means[-1], lows[-1], highs[-1]) == pytest.approx((0.1, 0.09, 0.11))


def test_a_curve_of_seeds_is_over_those_that_have_the_record(tmp_path):
    for seed, (error, records) in enumerate(((0.0, 3), (0.6, 3), (0.3, 6))):
        write_run(tmp_path / f"{seed}", error=error, seed=seed, records=records)
    steps, means, lows, highs = figures.curve_of_seeds(nets_in(tmp_path)[0], "train")
    np.testing.assert_array_equal(steps, [50, 100, 150, 200, 250, 300])
    curves = [0.9 + (error - 0.9) * steps / 300 for error in (0.0, 0.6, 0.3)]
    three, one = np.stack(curves)[:, 1::2], curves[2][::2]  # Two seeds have a record only every 100 steps.
    for found, over in ((means, np.mean), (lows, np.min), (highs, np.max)):
        np.testing.assert_allclose(found[1::2], over(three, axis=0))
        np.testing.assert_allclose(found[::2], one)


def test_bands_of_curves_are_the_range_over_seeds_and_never_below_zero(tmp_path):
    for seed, error in enumerate((0.0, 0.0, 0.6)):  # Mean minus deviation would be negative.
        write_run(tmp_path / f"{seed}", 20, error=error, seed=seed)
    figure = figures.draw_curves(nets_in(tmp_path))
    # Errors fall from 90 % by thirds of the way: to 60 or 80 % at the first of three records.
    for band, more in zip(figure.axes[0].collections, (0, 1), strict=True):
        steps, low, high = band_of(band)
        np.testing.assert_array_equal(steps, [100, 200, 300])
        np.testing.assert_allclose(low, np.array([60, 30, 0]) + np.array([1, 2, 3]) / 3 * more)
        np.testing.assert_allclose(high, np.array([80, 70, 60]) + np.array([1, 2, 3]) / 3 * more)
    assert "band: range over seeds" in legend_of(figure)


def test_curves_have_a_panel_per_series_a_colour_per_depth_and_bold_test_error(nets):
    figure = figures.draw_curves(nets)
    plain, residual = figure.axes
    assert [panel.get_title() for panel in figure.axes] == ["plain nets", "residual nets"]
    assert plain.get_ylabel() == "error (%)"
    assert plain.get_xlabel() == "step (mini-batches)"
    colour = figures.colours(nets)
    drawn = {
        (line.get_color(), line.get_linewidth(), round(line.get_ydata()[-1], 6))
        for panel in figure.axes
        for line in panel.lines
        if line.get_linestyle() == "-"
    }
    assert drawn == {
        (colour[depth], figures.WIDTHS[split], round(100 * error + more, 6))
        for depth, error in ((20, 0.1), (56, 0.7), (20, 0.2), (56, 0.05))
        for split, more in (("train", 0), ("test", 1))
    }
    assert legend_of(figure) == ["thin: training error", "bold: test error", "band: range over seeds"]
    assert plain.get_ylim() == residual.get_ylim()
    assert {text.get_text(): text.get_color() for text in plain.texts} == {
        "20 layers": colour[20],
        "56 layers": colour[56],
    }
    assert plain.get_xlim() == (0, 300)
    figure.draw_without_rendering()


def test_labels_of_lines_that_end_together_do_not_touch(tmp_path):
    for index, depth in enumerate((20, 32, 44, 56, 110)):
        write_run(tmp_path / f"{depth}", depth, error=0.001 * index)
    figure = figures.draw_curves(nets_in(tmp_path))
    heights = [text.xy[1] for text in figure.axes[0].texts]
    assert len(heights) == 5
    assert np.all(np.diff(heights) > 0.05)


def test_depths_are_drawn_with_a_line_per_series(nets):
    figure = figures.draw_depths(nets)
    training, test = figure.axes
    lines = [line for line in training.lines if line.get_color() == "0.3"]
    values = [[round(y, 6) for y in line.get_ydata()] for line in lines]
    assert values == [[10, 70], [20, 5]]
    dots = {
        (line.get_xdata()[0], *np.round(line.get_ydata(), 6)) for line in training.lines if line.get_marker() == "o"
    }
    assert dots == {(20, 9, 11), (56, 69, 71), (20, 19, 21), (56, 4, 6)}
    assert [text.get_text() for text in test.texts] == ["residual", "plain"]
    assert test.get_ylim()[1] > 71  # Both panels show the greatest error of either.
    assert training.get_xlabel() == "depth (weighted layers)"


def test_errors_over_depth_are_those_of_finished_runs_and_a_series_without_one_has_no_label(tmp_path):
    for depth, error in ((20, 0.1), (32, 0.2), (56, 0.4)):
        write_run(tmp_path / f"{depth}", depth, error=error)
    write_run(tmp_path / "unfinished", 32, error=0.9, seed=1, status=None)
    write_run(tmp_path / "started", 110, error=0.9, status=None)
    write_run(tmp_path / "residual", 20, True, status=None)
    nets = nets_in(tmp_path)
    assert figures.has_depths(nets)
    training, test = figures.draw_depths(nets).axes
    for panel, more in ((training, 0), (test, 1)):
        line = next(each for each in panel.lines if each.get_color() == "0.3" and len(each.get_xdata()))
        np.testing.assert_allclose(line.get_xydata(), [[20, 10 + more], [32, 20 + more], [56, 40 + more]])
        assert sum(each.get_marker() == "o" for each in panel.lines) == 3
        assert [text.get_text() for text in panel.texts] == ["plain"]
    assert [label.get_text() for label in training.get_xticklabels()] == ["20", "32", "56", "110"]
    assert not figures.has_depths([net for net in nets if net.depth != 56])


def test_a_single_depth_is_drawn_as_a_dot(tmp_path):
    write_run(tmp_path / "run", 20, error=0.25)
    training, _ = figures.draw_depths(nets_in(tmp_path)).axes
    dot = next(line for line in training.lines if line.get_marker() == "o")
    np.testing.assert_allclose(dot.get_xydata(), [[20, 25]])


def test_a_depth_has_one_colour_in_all_figures(nets):
    colour_of = figures.colours(nets)
    assert colour_of == {20: figures.PALETTE[0], 56: figures.PALETTE[1]}
    rows = {
        (net.depth, line.get_color())
        for line in figures.draw_nets(nets).axes[0].lines
        if line.get_marker() == "o"
        for net in [nets[int(line.get_ydata()[0])]]
    }
    dots = {
        (int(line.get_xdata()[0]), line.get_color())
        for line in figures.draw_depths(nets).axes[0].lines
        if line.get_marker() == "o"
    }
    assert rows == dots == set(colour_of.items())


@pytest.mark.parametrize("draw", [figures.draw_curves, figures.draw_depths])
def test_an_error_of_zero_has_a_place_on_the_log_scale(draw, tmp_path):
    write_run(tmp_path / "a", 20, error=0.0)
    write_run(tmp_path / "b", 56, error=0.3, status=None)
    panel = draw(nets_in(tmp_path), log_scale=True).axes[0]
    assert panel.get_yscale() == "symlog"
    assert panel.get_ylim()[0] < 0


def test_an_error_of_zero_has_a_place_among_nets_on_the_log_scale(tmp_path):
    write_run(tmp_path / "a", 20, error=0.0)
    panel = figures.draw_nets(nets_in(tmp_path), log_scale=True).axes[0]
    assert panel.get_xscale() == "symlog"
    assert panel.get_xlim()[0] < 0 == panel.lines[0].get_xdata()[0]


def test_depths_beyond_the_palette_still_have_a_colour(tmp_path):
    for depth in range(8, 8 + 6 * 9, 6):
        write_run(tmp_path / f"{depth}", depth)
    nets = nets_in(tmp_path)
    assert len(figures.colours(nets)) == 9


def test_panels_of_many_series_are_in_rows(tmp_path):
    for index in range(6):
        write_run(tmp_path / f"{index}", 20, optimizer__weight_decay=1e-4 * index)
    figure = figures.draw_curves(nets_in(tmp_path))
    assert len(figure.axes) == 6
    columns = {round(panel.get_subplotspec().colspan.start) for panel in figure.axes}
    assert columns == set(range(figures.MOST_COLUMNS))
    assert [bool(panel.get_ylabel()) for panel in figure.axes] == [True, False, False, False, True, False]


def test_every_net_has_a_row_with_a_dot_for_each_seed_and_a_bar_at_the_mean(nets):
    figure = figures.draw_nets(nets)
    for panel, more in zip(figure.axes[:2], (0, 1), strict=True):
        dots, bars = (
            {
                (int(line.get_ydata()[0]), *np.round(np.atleast_1d(line.get_xdata()), 6))
                for line in panel.lines
                if line.get_marker() == marker
            }
            for marker in ("o", "|")
        )
        errors = (10, 70, 20, 5)
        assert dots == {(row, error - 1 + more, error + 1 + more) for row, error in enumerate(errors)}
        assert bars == {(row, error + more) for row, error in enumerate(errors)}
        left, right = panel.get_xlim()
        assert all(left < error < right for line in panel.lines for error in np.atleast_1d(line.get_xdata()))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["plain-20", "plain-56", "residual-20", "residual-56"]
    assert legend_of(figure)[:2] == ["a seed", "mean"]
    figure.draw_without_rendering()


def test_gaps_to_the_shallowest_net_have_the_interval_of_the_verdict(tmp_path):
    write_seeds(tmp_path, 20, False, (0.1, 0.12, 0.14))
    write_seeds(tmp_path, 32, False, (0.3, 0.35, 0.4))
    write_seeds(tmp_path, 56, False, (0.7, 0.8, 0.9))
    write_seeds(tmp_path, 20, True, (0.1, 0.12, 0.14))
    write_seeds(tmp_path, 56, True, (0.11, 0.13))
    nets = nets_in(tmp_path)
    figure = figures.draw_nets(nets)
    panel = figure.axes[2]
    assert panel.get_title() == "gap in training error\nto the shallowest net"
    assert panel.get_xlabel() == "percentage points"
    points = {line.get_ydata()[0]: line for line in panel.lines if line.get_marker() == "s"}
    assert {row: round(line.get_xdata()[0], 6) for row, line in points.items()} == {1: 23, 2: 68, 4: 0}
    assert [line.get_markerfacecolor() == "none" for line in points.values()] == [False, False, True]
    intervals = {line.get_ydata()[0]: line.get_xdata() for line in panel.lines if line.get_marker() == "None"}
    judged = judge(read_runs([tmp_path])[0]).series[0].whole
    np.testing.assert_allclose(intervals[2], 100 * np.array(judged.interval))
    assert 4 not in intervals
    assert intervals[0] == [0, 0]  # The line at 0.
    assert "gap, 95 % interval" in legend_of(figure)
    assert "gap without interval: too few seeds, or no scatter" in legend_of(figure)


def test_gaps_are_to_the_shallowest_net_even_if_it_is_not_drawn(tmp_path):
    for depth, error in ((20, 0.1), (32, 0.3), (56, 0.7)):
        write_seeds(tmp_path, depth, False, (error, error))
    nets = nets_in(tmp_path)
    gaps = figures.gaps_to_shallowest(nets[1:], nets)
    assert {row: round(each.difference, 6) for row, each in gaps.items()} == {0: 0.2, 1: 0.6}


def test_there_is_no_panel_of_gaps_without_two_depths_of_a_series(tmp_path):
    write_run(tmp_path / "a", 20, False)
    write_run(tmp_path / "b", 56, True)
    assert len(figures.draw_nets(nets_in(tmp_path)).axes) == 2


@pytest.mark.parametrize("draw", [figures.draw_curves, figures.draw_depths, figures.draw_nets])
@pytest.mark.parametrize(
    ("error", "data", "drawn"), [(0.89, "digits", 90), (0.99, "cifar100", 99), (0.5, "digits", None), (0.89, "x", None)]
)
def test_the_error_of_guessing_is_drawn_where_it_is_known_and_the_axis_reaches_it(draw, error, data, drawn, tmp_path):
    write_run(tmp_path / "run", 20, False, error, data__name=data)
    figure = draw(nets_in(tmp_path))
    if draw is figures.draw_curves and error == 0.5:  # The curve begins at 0.63.
        assert figure.axes[0].get_ylim()[1] < 90
    lines = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] if draw is figures.draw_nets else line.get_ydata()[0] for line in lines] == (
        [pytest.approx(drawn)] if drawn else []
    )
    assert (f"guessing: {drawn} %" in legend_of(figure)) is bool(drawn)


def test_diverged_nets_have_a_row_and_crosses(tmp_path):
    write_run(tmp_path / "a", 20, False, 0.1)
    write_run(tmp_path / "b0", 56, False, 0.7, seed=0)
    write_run(tmp_path / "b1", 56, False, 0.7, seed=1, status="diverged")
    write_run(tmp_path / "c", 20, True, 0.2, status="diverged")
    nets = nets_in(tmp_path)
    figure = figures.draw_nets(nets)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["plain-20", "plain-56\n(1 of 2 diverged at step 200)", "residual-20"]
    assert [(text.get_text(), text.xy[1]) for text in figure.axes[0].texts] == [("diverged at step 200", 2)]
    curves = figures.draw_curves(nets)
    crosses = [
        [(line.get_xdata()[0], round(line.get_ydata()[0], 6)) for line in panel.lines if line.get_marker() == "x"]
        for panel in curves.axes
    ]
    assert crosses == [[(200, round(100 * (0.9 - 0.2 * 2 / 3), 6))], [(200, round(100 * (0.9 - 0.7 * 2 / 3), 6))]]
    assert "diverged" in legend_of(curves)


def test_curves_of_diverged_runs_end_at_the_last_finite_loss(tmp_path):
    run = set_losses(write_run(tmp_path / "run", status="diverged"), [2.0, 1.0, None])
    (net,) = nets_in(tmp_path)
    assert list(figures.curve_of_seeds(net, "train")[0]) == [10, 20]
    assert figures.last_finite(net.runs[0]) == (20, 0.5)
    assert figures.last_finite(net.runs[0], "epoch") == (2, 0.5)
    set_losses(run, [None])
    assert figures.last_finite(read_run(run)) == (10, 0.5)
    set_losses(run, [])
    assert figures.last_finite(read_run(run)) is None


@pytest.mark.parametrize(
    ("values", "zero", "decades"),
    [
        ([3.0, 80.0], 1, [10]),
        ([0.1], 0.01, [0.1]),
        ([0.03, 100.0], 0.01, [0.1, 1, 10, 100]),
        ([1.1], 0.1, [1]),
        ([], 0.1, []),
    ],
)
def test_zero_on_a_log_scale_is_a_power_of_ten_below_all_values(values, zero, decades):
    found = figures.zero_on_log_scale(np.array(values))
    assert found == pytest.approx(zero)
    assert figures.decades_above(found, max(values, default=found)) == pytest.approx(decades)


def growth_of(series, threshold, kappa=0.05, rates=(0.1,) * 6):
    depths = (8, 14, 20, 26, 32, 38)
    sides = (BELOW, EXACT, EXACT, EXACT, EXACT, ABOVE)
    steps = 100 * np.exp(kappa * np.array(depths))
    return growth(
        series,
        threshold,
        [Reach("", *each, diverged=False, unfinished=False) for each in zip(depths, rates, steps, sides, strict=True)],
    )


def lines_of(panel):
    """Return the lines of a panel that are not markers."""
    return [line for line in panel.lines if line.get_marker() == "None"]


def test_rates_have_a_panel_per_threshold_a_colour_per_series_and_open_triangles_for_censored_runs():
    growths = [growth_of(series, threshold) for series in ("plain", "residual") for threshold in (1.0, 0.5)]
    figure = figures.draw_rates(growths)
    assert [panel.get_title() for panel in figure.axes] == [
        "steps to a training loss of 1",
        "steps to a training loss of 0.5",
    ]
    panel = figure.axes[0]
    assert panel.get_yscale() == "log"
    markers = [(line.get_marker(), line.get_markerfacecolor()) for line in panel.lines if line.get_marker() != "None"]
    for colour in figures.PALETTE[:2]:
        assert markers.count(("o", colour)) == 4
    assert markers.count(("^", "none")) == markers.count(("v", "none")) == 2
    straight = next(line for line in lines_of(panel) if line.get_linestyle() == "-" and line.get_alpha() == 1)
    slopes = np.diff(np.log(straight.get_ydata())) / np.diff(straight.get_xdata())
    np.testing.assert_allclose(slopes, 0.05, rtol=0.05)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:5] == ["plain", "residual", "exponential", "power law", "quadratic"]


def test_laws_are_faint_beyond_the_depths_measured_and_leave_room_for_the_runs():
    panel = figures.draw_rates([growth_of("plain", 1.0)]).axes[0]
    strong = [line for line in lines_of(panel) if line.get_alpha() == 1]
    assert sorted(line.get_linestyle() for line in strong) == ["-", "--", ":"]
    assert {(line.get_xdata()[0], line.get_xdata()[-1]) for line in strong} == {(14, 32)}
    faint = [line for line in lines_of(panel) if line.get_alpha() == figures.FAINT]
    assert {(line.get_xdata()[0], line.get_xdata()[-1]) for line in faint} == {(8, 14), (32, 38)}
    low, high = panel.get_ylim()
    assert low == pytest.approx(100 * np.exp(0.4) / 1.5)
    assert high == pytest.approx(100 * np.exp(1.9) * 1.5)


def test_a_second_row_has_steps_times_learning_rate_if_rates_differ_within_a_series():
    falling = growth_of("plain", 1.0, rates=(0.1, 0.1, 0.1, 0.03, 0.03, 0.01))
    figure = figures.draw_rates([falling, growth_of("residual", 1.0)])
    steps, progress = figure.axes
    assert progress.get_title() == "steps times learning rate to a training loss of 1"
    assert progress.get_ylabel() == "steps times learning rate"
    for panel, factors in ((steps, [1.0] * 6), (progress, [each.rate for each in falling.reaches])):
        markers = [line for line in panel.lines if line.get_marker() != "None"][:6]
        expected = [each.steps * factor for each, factor in zip(falling.reaches, factors, strict=True)]
        np.testing.assert_allclose([line.get_ydata()[0] for line in markers], expected)
    # All rates of the residual nets are 0.1: their laws are the laws of the steps times 0.1.
    last = [lines_of(panel)[-1].get_ydata() for panel in figure.axes]
    np.testing.assert_allclose(last[1], 0.1 * last[0])
    figure.draw_without_rendering()


def test_runs_without_a_law_are_drawn_too():
    few = growth("plain", 0.5, [Reach("", 20, 0.1, 100.0, EXACT, diverged=False, unfinished=False)])
    assert len(figures.draw_rates([few]).axes[0].lines) == 1


def test_nets_are_drawn_before_a_run_has_finished(tmp_path):
    write_run(tmp_path / "run", status=None)
    figures.draw_nets(nets_in(tmp_path)).draw_without_rendering()


def test_a_single_net_is_drawn(tmp_path):
    write_run(tmp_path / "run", 20, False, 0.001)
    for log_scale in (False, True):
        figures.draw_nets(nets_in(tmp_path), log_scale).draw_without_rendering()


def test_titles_break_between_parts_of_a_name():
    title = "residual nets, from residual-56-as-plain, no norm, learning rate 0.01"
    assert figures.wrapped(title) == "residual nets, from residual-56-as-plain,\nno norm, learning rate 0.01"
    assert figures.wrapped("plain nets") == "plain nets"
