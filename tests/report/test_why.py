"""The page of what instruments have measured, on made-up runs and measurements."""

import matplotlib.figure
import numpy as np
import pytest

from resnet_jax.analysis.diagnosed import START, read_diagnosed
from resnet_jax.analysis.runs import group_seeds, read_runs
from resnet_jax.instruments import END
from resnet_jax.report import why, why_figures, why_page
from resnet_jax.report.panels import Line, Panel, Plot, line_of
from tests.analysis.measured import measure
from tests.analysis.synthetic import write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Plain and residual nets of two depths, three seeds each, all measured."""
    folder = tmp_path_factory.mktemp("runs")
    for residual in (False, True):
        for depth in (20, 56):
            for seed in range(3):
                run = folder / f"{'residual' if residual else 'plain'}-{depth}-seed{seed}"
                write_run(run, depth, residual, 0.1 if residual else 0.5, seed)
                measure(run, residual, depth, seed, size=2 if residual else 10)
    return folder


@pytest.fixture(scope="module")
def page(folder):
    nets = group_seeds(read_runs([folder])[0])
    return why.page(read_diagnosed([folder], nets)[0], nets)


def test_each_panel_has_its_lines_its_note_and_a_sentence_on_the_deepest_twins(page):
    panels = {panel.name: panel for panel in page.panels}
    assert list(panels) == [
        *("why_loss", "why_gradients", "why_cosines", "why_signal", "why_rank", "why_deletions"),
        *("why_branches", "why_responses"),
    ]
    gradients = panels["why_gradients"]
    assert gradients.says.startswith(
        "At the start gradients grow by a factor of 10.010 a layer towards the input in plain-56, of 2.010 in "
        "residual-56. Median and range over seeds: plain-56 10.010 (10.000 to 10.020)"
    )
    [plot] = gradients.plots
    assert [line.label for line in plot.lines] == ["plain-20", "plain-56", "residual-20", "residual-56"]
    assert [line.is_dashed for line in plot.lines] == [True, True, False, False]
    np.testing.assert_allclose(plot.lines[1].values, 10 + np.arange(4) + 0.01 * np.arange(3)[:, None])
    assert plot.lines[1].marks == (2, 3)  # Where stages 2 and 3 begin.
    assert "Batches of 128 of 512 images, batch statistics. Median and range of 3 seeds" in gradients.note
    assert panels["why_loss"].says.startswith(
        "plain-56 ends at a training loss of 1 , residual-56 at 0.2".replace(" ,", ",")
    )
    assert "features in the upper half of plain-56 have a median rank of 13, of residual-56 one of 4.5" in (
        panels["why_rank"].says
    )


def test_the_foot_says_what_was_not_measured(page):
    assert page.foot == [
        "Not measured: routes of the gradient (runs of configs/sweeps/digits_routes.py); identity layers (runs of "
        "configs/sweeps/digits_identity.py)."
    ]


def test_lines_over_layers_are_sorted_and_several_deletions_are_medians_over_draws(page):
    panels = {panel.name: panel for panel in page.panels}
    responses = panels["why_responses"].plots[0].lines[0]
    assert list(responses.x) == [1, 2, 3, 4]
    np.testing.assert_allclose(responses.values[0], [13, 12, 11, 10])
    several = panels["why_deletions"].plots[-1].lines[0]
    assert list(several.x) == [2, 4]
    np.testing.assert_allclose(several.values[0], [20, 40])


def test_deletions_are_compared_where_the_plain_net_works(folder):
    nets = group_seeds(read_runs([folder])[0])
    measured, _ = read_diagnosed([folder], nets)
    broken = [
        each._replace(
            measurements=[
                m._replace(result=m.result | {"error": {"test": 0.9}}) if m.instrument == "deletions" else m
                for m in each.measurements
            ]
        )
        if (each.residual, each.depth) == (False, 56)
        else each
        for each in measured
    ]
    [panel] = [panel for panel in why.page(broken, nets).panels if panel.name == "why_deletions"]
    assert "in plain-20" in panel.says


def test_panels_become_pictures_and_plots_with_the_same_numbers(page, tmp_path):
    style = why_figures.style_of(page.panels)
    for panel in page.panels:
        figure = why_figures.draw(panel, style)
        assert isinstance(figure, matplotlib.figure.Figure)
        assert [axis.get_title() for axis in figure.axes] == [plot.title for plot in panel.plots]
        drawn = figure.axes[0].get_lines()[0].get_ydata()
        np.testing.assert_allclose(drawn, np.median(panel.plots[0].lines[0].values, 0))
    why_page.write(tmp_path, page, "python -m experiments.why runs/tiny")
    text = (tmp_path / "why.md").read_text()
    for panel in page.panels:
        assert f"![{panel.title}]({panel.name}.png)" in text
        assert panel.says in text
        assert (tmp_path / f"{panel.name}.png").stat().st_size > 5_000
        assert (tmp_path / f"{panel.name}.svg").exists()
    html = (tmp_path / "why.html").read_text()
    assert html.count("Plotly.newPlot(") == len(page.panels)
    assert "<script src=" not in html
    assert '"mode":"markers"' in html.replace(" ", "")  # Where stages begin.


def test_routes_and_identity_layers_are_panels_of_runs(tmp_path):
    for seed in range(3):
        write_run(tmp_path / f"both-{seed}", 56, True, 0.1, seed)
        write_run(tmp_path / f"stop-{seed}", 56, True, 0.3, seed, gates__route="stop_gradient")
        for rate in (0.01, 0.1):
            fields = {"from_run": "runs/x-as-56", "optimizer__learning_rate": rate}
            write_run(tmp_path / f"identity-{rate}-{seed}", 56, False, 5 * rate, seed, **fields)
    nets = group_seeds(read_runs([tmp_path])[0])
    panels = {panel.name: panel for panel in why.page([], nets).panels}
    [routes], [identities] = panels["why_routes"].plots, panels["why_identities"].plots
    assert any("stop_gradient" in name for name in routes.ticks)
    assert not any("from" in name for name in routes.ticks)
    assert len(routes.lines) == 2
    assert [line.values[0, -1] for line in identities.lines] == pytest.approx([0.1, 1.0])
    assert [line.label for line in identities.lines] == ["learning rate 0.01", "learning rate 0.1"]
    assert "end at a training loss of 0.1 with learning rate 0.01 and of 1 with" in panels["why_identities"].says
    assert why_figures.draw(panels["why_routes"], why_figures.style_of(list(panels.values())))


def test_a_measurement_is_found_by_its_step(folder):
    [net] = [each for each in read_diagnosed([folder], [])[0] if each.name == "plain-56-seed2"]
    assert net.found("gradients", START).step == 0
    assert net.found("feature_rank", END).step == 300
    assert net.found("gradients", END) is None
    assert net.result("gradients", START, "a_layer") == pytest.approx(10.02)
    assert net.result("gradients", START, "nothing") is None
    assert net.label == "plain-56"


def plot_of(values, y="rank", is_log=False, classes=None, title="a"):
    lines = [Line("residual-20, norm none", 20, False, np.arange(1, 4), np.array([values], float), classes=classes)]
    return Plot(title, "block", y, lines, is_log)


def test_plots_of_one_quantity_share_their_axes_within_a_panel_and_across_panels():
    other = plot_of([5, 5, 5], y="share")
    panels = [
        Panel("a", "A", [plot_of([1, 2, 3]), plot_of([10, 20, 30]), other], "", ""),
        Panel("b", "B", [plot_of([100, 200, 300])], "", ""),
    ]
    style = why_figures.style_of(panels)
    first, second = (why_figures.draw(panel, style) for panel in panels)
    limits = [axis.get_ylim() for figure in (first, second) for axis in figure.axes]
    assert limits[0] == limits[1] == limits[3] != limits[2]
    assert limits[0][0] < 1 < 300 < limits[0][1]
    assert len({axis.get_xlim() for axis in first.axes}) == 1
    page = why_figures.interactive(panels[0], style, with_library=False)
    assert page.count('"range":[-10.96,311.96]') == 2
    assert page.count('"matches":"x"') == 2
    assert first.legends[0].get_texts()[0].get_text() == "residual-20, no norm"


def test_zeros_have_a_labelled_place_on_a_logarithmic_axis():
    panel = Panel("a", "A", [plot_of([0, 0.03, 3], is_log=True)], "", "")
    style = why_figures.style_of([panel])
    figure = why_figures.draw(panel, style)
    [axis] = figure.axes
    np.testing.assert_allclose(axis.lines[0].get_ydata(), [0.01, 0.03, 3])
    assert axis.get_ylim()[0] < 0.01
    figure.draw_without_rendering()
    labels = dict(zip(axis.get_yticks(), (label.get_text() for label in axis.get_yticklabels()), strict=True))
    assert labels[0.01] == "0"
    page = why_figures.interactive(panel, style, with_library=False)
    assert '"ticktext":["0","0.1","1"]' in page


@pytest.mark.parametrize("values", [[np.nan] * 3, [0, 0, 0], [2, 2, 2]])
@pytest.mark.parametrize("is_log", [False, True])
def test_axes_of_constant_or_missing_values_have_a_length(values, is_log):
    low, high, _ = why_figures.scale_of(np.array(values, float), is_log)
    assert np.isfinite([low, high]).all()
    assert low < high


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
    panel = Panel("a", "A", [plot_of([1, 2, top], y=y, classes=classes)], "", "")
    style = why_figures.style_of([panel])
    dotted = [line for line in why_figures.draw(panel, style).axes[0].lines if line.get_linestyle() == ":"]
    assert [line.get_ydata()[0] for line in dotted] == [90] * is_drawn
    assert ("guessing: 90 %" in why_figures.interactive(panel, style, with_library=False)) is is_drawn


def test_measured_nets_know_their_classes_by_the_data_they_were_measured_on(folder):
    nets = read_diagnosed([folder], [])[0]
    assert line_of("a", nets[0], np.arange(2), np.zeros((1, 2))).classes == 10
