"""Figures: what is drawn, in which colour and how it is named."""

import numpy as np
import pytest

from resnet_jax.analysis import figures
from resnet_jax.analysis.censored import ABOVE, BELOW, EXACT
from resnet_jax.analysis.rates import Reach, growth
from resnet_jax.analysis.runs import group_seeds, read_runs
from tests.analysis.synthetic import write_run


@pytest.fixture
def nets(tmp_path):
    for residual, errors in ((False, {20: 0.1, 56: 0.7}), (True, {20: 0.2, 56: 0.05})):
        for depth, error in errors.items():
            for seed, more in enumerate((-0.01, 0.01)):
                write_run(tmp_path / f"{residual}-{depth}-{seed}", depth, residual, error + more, seed)
    return group_seeds(read_runs([tmp_path])[0])


def test_a_mean_curve_is_that_of_the_seeds_with_its_deviation(nets):
    steps, means, deviations = figures.mean_curve(nets[0], "train")
    np.testing.assert_array_equal(steps, [100, 200, 300])
    assert means[-1] == pytest.approx(0.1)
    assert deviations[-1] == pytest.approx(np.std([0.09, 0.11], ddof=1))


def test_curves_have_a_panel_per_series_a_colour_per_depth_and_bold_test_error(nets, tmp_path):
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
    }
    assert drawn == {
        (colour[depth], figures.WIDTHS[split], round(100 * error + more, 6))
        for depth, error in ((20, 0.1), (56, 0.7), (20, 0.2), (56, 0.05))
        for split, more in (("train", 0), ("test", 1))
    }
    assert [text.get_text() for text in residual.get_legend().get_texts()] == list(figures.SPLIT_NAMES.values())
    assert {text.get_text(): text.get_color() for text in plain.texts} == {
        "20 layers": colour[20],
        "56 layers": colour[56],
    }
    assert plain.get_xlim() == (0, 300)
    for suffix in ("png", "svg"):
        figure.savefig(tmp_path / f"figure.{suffix}")


def test_labels_of_lines_that_end_together_do_not_touch(tmp_path):
    for index, depth in enumerate((20, 32, 44, 56, 110)):
        write_run(tmp_path / f"{depth}", depth, error=0.001 * index)
    figure = figures.draw_curves(group_seeds(read_runs([tmp_path])[0]))
    heights = [text.xy[1] for text in figure.axes[0].texts]
    assert len(heights) == 5
    assert np.all(np.diff(heights) > 0.05)


def test_depths_are_drawn_with_a_line_per_series(nets):
    figure = figures.draw_depths(nets)
    training, test = figure.axes
    lines = [line for line in training.lines if line.get_color() == "0.3"]
    values = [[round(y, 6) for y in line.get_ydata()] for line in lines]
    assert values == [[10, 70], [20, 5]]
    assert [text.get_text() for text in test.texts] == ["residual", "plain"]
    assert test.get_ylim()[1] > 71  # Both panels show the greatest error of either.
    assert training.get_xlabel() == "depth (weighted layers)"


@pytest.mark.parametrize("draw", [figures.draw_curves, figures.draw_depths])
def test_an_error_of_zero_has_a_place_on_the_log_scale(draw, tmp_path):
    write_run(tmp_path / "a", 20, error=0.0)
    write_run(tmp_path / "b", 56, error=0.3, status=None)
    panel = draw(group_seeds(read_runs([tmp_path])[0]), log_scale=True).axes[0]
    assert panel.get_yscale() == "symlog"
    assert panel.get_ylim()[0] < 0


def test_depths_beyond_the_palette_still_have_a_colour(tmp_path):
    for depth in range(8, 8 + 6 * 9, 6):
        write_run(tmp_path / f"{depth}", depth)
    nets = group_seeds(read_runs([tmp_path])[0])
    assert len(figures.colours(nets)) == 9


def test_panels_of_many_series_are_in_rows(tmp_path):
    for index in range(6):
        write_run(tmp_path / f"{index}", 20, optimizer__weight_decay=1e-4 * index)
    figure = figures.draw_curves(group_seeds(read_runs([tmp_path])[0]))
    assert len(figure.axes) == 6
    columns = {round(panel.get_subplotspec().colspan.start) for panel in figure.axes}
    assert columns == set(range(figures.MOST_COLUMNS))
    assert [bool(panel.get_ylabel()) for panel in figure.axes] == [True, False, False, False, True, False]


def test_every_net_has_a_row_with_a_dot_for_each_seed_and_a_bar_at_the_mean(nets, tmp_path):
    figure = figures.draw_nets(nets)
    for panel, more in zip(figure.axes, (0, 1), strict=True):
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
    figure.savefig(tmp_path / "figure.png")


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


def test_a_second_row_has_steps_times_learning_rate_if_rates_differ_within_a_series(tmp_path):
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
    figure.savefig(tmp_path / "figure.png")


def test_runs_without_a_law_are_drawn_too():
    few = growth("plain", 0.5, [Reach("", 20, 0.1, 100.0, EXACT, diverged=False, unfinished=False)])
    assert len(figures.draw_rates([few]).axes[0].lines) == 1


def test_nets_are_drawn_before_a_run_has_finished(tmp_path):
    write_run(tmp_path / "run", status=None)
    figures.draw_nets(group_seeds(read_runs([tmp_path])[0])).savefig(tmp_path / "figure.png")


def test_a_single_net_is_drawn(tmp_path):
    write_run(tmp_path / "run", 20, False, 0.001)
    for log_scale in (False, True):
        figures.draw_nets(group_seeds(read_runs([tmp_path])[0]), log_scale).savefig(tmp_path / "figure.png")
