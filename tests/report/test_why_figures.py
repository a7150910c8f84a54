"""Panels as pictures and as interactive plots: both have the same lines, bands, axes, colours and texts."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from resnet_jax.report import why_figures
from resnet_jax.report.figures import PALETTE
from resnet_jax.report.panels import Line, Panel, Plot
from tests.report.drawn import band_of, legend_of, plotly_of

NAN = np.nan


def line(values, label="residual-20", depth=20, is_dashed=False, marks=(), classes=None):
    """Return a line with ``values``, ``[seeds, points]`` or ``[points]``."""
    values = np.atleast_2d(np.array(values, float))
    return Line(label, depth, is_dashed, np.arange(1, values.shape[1] + 1), values, marks, classes)


def plot(*lines, y="rank", is_log=False, title="a", x="block", ticks=()):
    return Plot(title, x, y, list(lines), is_log, ticks)


def panel(*plots):
    return Panel("name", "Title", list(plots), "note", "says")


def drawn(*plots):
    """Return the figure of ``plots``, and traces and layout of their interactive form."""
    found = panel(*plots)
    style = why_figures.style_of([found])
    page = why_figures.interactive(found, style, with_library=False)
    return why_figures.draw(found, style), *plotly_of(page)


def test_lines_are_medians_and_bands_the_range_over_seeds():
    seeds = [[1, 5, 9], [2, 4, 8], [6, 6, 1]]
    figure, traces, _ = drawn(plot(line(seeds)))
    [axis] = figure.axes
    np.testing.assert_array_equal(axis.lines[0].get_xydata(), [[1, 2], [2, 5], [3, 8]])
    [collection] = axis.collections
    for got, expected in zip(band_of(collection), ([1, 2, 3], [1, 4, 1], [6, 6, 9]), strict=True):
        np.testing.assert_array_equal(got, expected)
    median, band = traces
    assert (median["x"], median["y"]) == ([1, 2, 3], [2, 5, 8])
    assert (band["x"], band["y"]) == ([1, 2, 3, 3, 2, 1], [1, 4, 1, 9, 6, 6])
    assert (band["fill"], band["hoverinfo"], band["line"]["width"]) == ("toself", "skip", 0)


def test_one_seed_has_a_line_and_no_band():
    figure, traces, _ = drawn(plot(line([3, 2, 1])))
    assert len(figure.axes[0].collections) == 0
    assert [trace["mode"] for trace in traces] == ["lines"]


def test_points_without_a_value_are_gaps_and_a_seed_without_one_does_not_count():
    figure, traces, layout = drawn(plot(line([[1, NAN, NAN, 4], [3, NAN, 5, 6]])))
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [2, NAN, 5, 5])
    median, band = traces
    assert median["y"] == [2, None, 5, 5]
    assert (band["x"], band["y"]) == ([1, 3, 4, 4, 3, 1], [1, 5, 4, 6, 5, 3])
    low, high = layout["yaxis"]["range"]
    assert low < 1 < 6 < high


def test_a_line_that_was_nowhere_measured_does_not_keep_the_others_from_being_drawn():
    figure, traces, _ = drawn(plot(line([NAN, NAN]), line([1, 2], "plain-20", is_dashed=True)))
    assert np.isnan(figure.axes[0].lines[0].get_ydata().astype(float)).all()
    assert traces[0]["y"] == [None, None]
    assert figure.axes[0].get_ylim() == pytest.approx((0.96, 2.04))


def test_plain_nets_are_dashed_and_dots_are_where_a_stage_begins():
    figure, traces, _ = drawn(plot(line([5, 6, 7, 8], is_dashed=True, marks=(1, 3)), line([1, 1, 1, 1], marks=(2,))))
    plain, dots, residual, _ = figure.axes[0].lines
    assert (plain.get_linestyle(), residual.get_linestyle()) == ("--", "-")
    np.testing.assert_array_equal(dots.get_xydata(), [[2, 6], [4, 8]])
    lines = [trace for trace in traces if trace["mode"] == "lines"]
    assert [trace["line"]["dash"] for trace in lines] == ["dash", "solid"]
    markers = [trace for trace in traces if trace["mode"] == "markers"]
    assert (markers[0]["x"], markers[0]["y"]) == ([2, 4], [6, 8])
    assert [trace["showlegend"] for trace in markers] == [False, False]


def test_colours_follow_depth_the_same_in_all_panels_or_the_order_of_lines_without_one():
    panels = [
        panel(plot(line([1], "plain-56", 56), line([1], "plain-20", 20))),
        panel(plot(line([1], "plain-110", 110), line([1], "plain-56", 56))),
        panel(plot(line([1], "rate 0.1", None), line([1], "rate 1", None))),
    ]
    style = why_figures.style_of(panels)
    expected = [[PALETTE[1], PALETTE[0]], [PALETTE[2], PALETTE[1]], [PALETTE[0], PALETTE[1]]]
    for each, colours in zip(panels, expected, strict=True):
        axis = why_figures.draw(each, style).axes[0]
        assert [drawn.get_color() for drawn in axis.lines if drawn.get_linestyle() != "None"] == colours
        traces, _ = plotly_of(why_figures.interactive(each, style, with_library=False))
        assert [trace["line"]["color"] for trace in traces] == colours


def test_a_band_has_the_colour_of_its_line():
    figure, traces, _ = drawn(plot(line([[1, 2], [3, 4]])))
    [collection] = figure.axes[0].collections
    np.testing.assert_allclose(collection.get_facecolor()[0], (*to_rgb(PALETTE[0]), 0.2))
    assert traces[1]["fillcolor"] == "rgba(0,114,178,0.2)"


def test_axes_have_the_labels_of_the_plot_and_the_panel_its_title():
    figure, _, layout = drawn(
        plot(line([1, 2]), x="block", y="rank", title="step 0"), plot(line([1]), x="layer", y="error (%)", title="end")
    )
    assert [(a.get_title(), a.get_xlabel(), a.get_ylabel()) for a in figure.axes] == [
        ("step 0", "block", "rank"),
        ("end", "layer", "error (%)"),
    ]
    assert figure.get_suptitle() == "Title"
    assert [layout[name]["title"]["text"] for name in ("xaxis", "yaxis", "xaxis2", "yaxis2")] == [
        *("block", "rank", "layer", "error (%)")
    ]
    assert [each["text"] for each in layout["annotations"]] == ["step 0", "end"]
    assert "matches" not in layout["xaxis2"]  # Blocks and layers are not one axis.


def test_plots_of_one_quantity_share_their_axes_within_a_panel_and_across_panels():
    panels = [
        panel(plot(line([1, 2, 3])), plot(line([10, 20, 30])), plot(line([5, 5, 5]), y="share")),
        panel(plot(line([100, 200, 300]))),
    ]
    style = why_figures.style_of(panels)
    first, second = (why_figures.draw(each, style) for each in panels)
    limits = [axis.get_ylim() for figure in (first, second) for axis in figure.axes]
    assert limits[0] == limits[1] == limits[3] != limits[2]
    assert limits[0] == pytest.approx((1 - 0.04 * 299, 300 + 0.04 * 299))
    assert len({axis.get_xlim() for axis in first.axes}) == 1
    _, layout = plotly_of(why_figures.interactive(panels[0], style, with_library=False))
    assert layout["yaxis"]["range"] == layout["yaxis2"]["range"] == pytest.approx(limits[0])
    assert [layout[name].get("matches") for name in ("xaxis", "xaxis2", "xaxis3")] == [None, "x", "x"]


def test_a_quantity_has_a_linear_and_a_logarithmic_scale_of_its_own():
    style = why_figures.style_of([panel(plot(line([1, 2])), plot(line([1, 100]), is_log=True))])
    assert style.scales["rank", False].high == pytest.approx(2.04)
    assert style.scales["rank", True].high == pytest.approx(10 ** (2 * 1.04))
    assert style.scales["rank", True].zero is None


def test_zeros_have_a_labelled_place_on_a_logarithmic_axis():
    found = panel(plot(line([0, 0.03, 3]), is_log=True))
    style = why_figures.style_of([found])
    figure = why_figures.draw(found, style)
    [axis] = figure.axes
    np.testing.assert_allclose(axis.lines[0].get_ydata(), [0.01, 0.03, 3])
    assert axis.get_yscale() == "log"
    assert axis.get_ylim()[0] < 0.01
    figure.draw_without_rendering()
    labels = dict(zip(axis.get_yticks(), (label.get_text() for label in axis.get_yticklabels()), strict=True))
    assert labels[0.01] == "0"
    assert not any(text for value, text in labels.items() if value < 0.01)
    traces, layout = plotly_of(why_figures.interactive(found, style, with_library=False))
    assert traces[0]["y"] == pytest.approx([0.01, 0.03, 3])
    assert layout["yaxis"]["ticktext"] == ["0", "0.1", "1"]
    assert layout["yaxis"]["tickvals"] == pytest.approx([0.01, 0.1, 1])
    assert layout["yaxis"]["range"] == pytest.approx(np.log10(axis.get_ylim()))


def test_bands_on_a_logarithmic_axis_end_at_its_zero():
    figure, traces, _ = drawn(plot(line([[0, 1], [1, 2], [2, 3]]), is_log=True))
    [collection] = figure.axes[0].collections
    _, low, high = band_of(collection)
    np.testing.assert_allclose(low, [0.1, 1])
    np.testing.assert_allclose(high, [2, 3])
    assert traces[1]["y"] == pytest.approx([0.1, 1, 3, 2])


@pytest.mark.parametrize("values", [[NAN] * 3, [0, 0, 0], [2, 2, 2], [-1, 0, 0]])
@pytest.mark.parametrize("is_log", [False, True])
def test_axes_of_constant_or_missing_values_have_a_length(values, is_log):
    low, high, _ = why_figures.scale_of(np.array(values, float), is_log)
    assert np.isfinite([low, high]).all()
    assert low < high
    assert not is_log or low > 0


@pytest.mark.parametrize(
    ("y", "classes", "top", "is_drawn"),
    [
        ("test error (%)", 10, 95, True),
        ("test error (%)", 10, 50, False),  # The axis does not reach it.
        ("test error (%)", None, 95, False),
        ("rank", 10, 95, False),
    ],
)
def test_plots_of_errors_have_the_error_of_guessing(y, classes, top, is_drawn):
    plots = [plot(line([1, 2, top], classes=classes), y=y) for _ in range(2)]
    figure, _, layout = drawn(*plots)
    for axis in figure.axes:
        dotted = [each for each in axis.lines if each.get_linestyle() == ":"]
        assert [each.get_ydata()[0] for each in dotted] == [90] * is_drawn
    assert legend_of(figure) == ["residual-20", *["guessing: 90 %"] * is_drawn]
    shapes = layout.get("shapes", [])
    places = [(each["xref"], each["yref"], each["y0"], each["y1"]) for each in shapes]
    assert places == [("x domain", "y", 90, 90), ("x2 domain", "y2", 90, 90)] * is_drawn
    assert [each["showlegend"] for each in shapes] == [True, False] * is_drawn  # Named once.


def bars(**changes):
    values = {"training error": [[50, 12, 32]], "test error": [[51, 13, 95]]} | changes
    lines = [
        Line(label, None, False, np.arange(3), np.array(each, float), classes=10) for label, each in values.items()
    ]
    ticks = ("plain-56", "residual-56", "residual-56, route stop_gradient")
    return plot(*lines, y="final error (%)", x="", ticks=ticks)


def test_bars_have_the_values_of_their_nets_from_top_to_bottom():
    figure, traces, layout = drawn(bars())
    [axis] = figure.axes
    widths = [patch.get_width() for patch in axis.patches]
    assert widths == [50, 12, 32, 51, 13, 95]
    middles = [patch.get_y() + patch.get_height() / 2 for patch in axis.patches]
    np.testing.assert_allclose(np.round(middles), [0, 1, 2, 0, 1, 2])
    assert axis.yaxis_inverted()
    assert middles[0] < middles[3]  # Training error above test error.
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        *("plain-56", "residual-56", "residual-56, route: stop gradient")
    ]
    assert (axis.get_xlim()[0], axis.get_xlabel()) == (0, "final error (%)")
    assert [(trace["type"], trace["orientation"], trace["x"]) for trace in traces] == [
        ("bar", "h", [50, 12, 32]),
        ("bar", "h", [51, 13, 95]),
    ]
    assert traces[0]["y"] == ["plain-56", "residual-56", "residual-56, route: stop gradient"]
    assert (layout["yaxis"]["autorange"], layout["xaxis"]["range"][0]) == ("reversed", 0)
    assert layout["xaxis"]["title"]["text"] == "final error (%)"


def test_the_error_of_guessing_crosses_bars_upright():
    figure, _, layout = drawn(bars())
    dotted = [each for each in figure.axes[0].lines if each.get_linestyle() == ":"]
    assert [each.get_xdata()[0] for each in dotted] == [90]
    [shape] = layout["shapes"]
    assert (shape["xref"], shape["x0"], shape["x1"], shape["yref"]) == ("x", 90, 90, "y domain")


def test_names_of_lines_are_words_and_in_html_text():
    name = "residual-20, norm none, <b>x</b>"
    figure, traces, _ = drawn(plot(line([[1, 2], [2, 3]], name)), plot(line([1, 2], name), title="b"))
    assert legend_of(figure) == ["residual-20, no norm, <b>x</b>"]
    names = {trace["name"] for trace in traces}
    assert names == {"residual-20, no norm, &lt;b&gt;x&lt;/b&gt;"}
    assert [trace["showlegend"] for trace in traces] == [True, False, False]  # Once, and not of the second plot.
    assert len({trace["legendgroup"] for trace in traces}) == 1
    assert traces[0]["hovertemplate"].startswith("residual-20, no norm, &lt;b&gt;x")


def test_the_library_is_part_of_a_plot_where_asked_for():
    found = panel(plot(line([1, 2])))
    style = why_figures.style_of([found])
    lengths = [len(why_figures.interactive(found, style, with_library=each)) for each in (False, True)]
    assert lengths[0] < 100_000
    assert lengths[1] > 1_000_000
