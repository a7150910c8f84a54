"""Which nets are drawn where there are more than anyone can look at."""

import numpy as np
import pytest

from resnet_jax.analysis.runs import group_depths, group_seeds, read_runs
from resnet_jax.report import figures, selection
from resnet_jax.report.findings import find
from resnet_jax.report.html_page import report
from resnet_jax.report.selection import MOST_DEPTHS, MOST_NETS, MOST_SERIES, select, spread
from tests.analysis.synthetic import nets_in, write_run

# What a viewer opens and a person reads: pixels of a side, bytes of a page without its library.
MOST_PIXELS, MOST_BYTES = 4_000, 6_000_000


def write_series(folder, rises, depths=(20, 56)):
    """Write a run of each depth for each of ``rises``, by how much its training error is higher at the last depth."""
    for number, rise in enumerate(rises):
        for depth in depths:
            error = 0.3 + rise * (depth == depths[-1])
            write_run(folder / f"{number}-{depth}", depth, error=error, optimizer__weight_decay=number / 1000)
    return nets_in(folder)


def series_of(nets):
    return [float(name.rpartition(" ")[2]) * 1000 for name in group_depths(nets)]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Runs of 60 series of one depth each, and of one series of 40 depths."""
    folder = tmp_path_factory.mktemp("many")
    write_series(folder, np.linspace(-0.2, 0.2, 60), depths=(20,))
    for depth in range(8, 8 + 6 * 40, 6):
        records = 1200 if depth == 8 else 3  # More than are drawn.
        write_run(folder / f"deep-{depth}", depth, residual=True, error=0.2, records=records, steps=1200)
    return read_runs([folder])[0]


def test_few_nets_are_all_drawn(tmp_path):
    nets = write_series(tmp_path, [0.1] * MOST_SERIES)
    assert select(nets) == (nets, nets, [])


def test_of_many_series_those_that_rise_most_and_least_and_the_reference_are_drawn(tmp_path):
    rises = [0.01 * number for number in range(-10, 11)]
    nets = write_series(tmp_path, rises)
    reference = nets[2 * 10].series  # It rises by nothing.
    drawn, rows, left_out = select(nets, reference)
    assert len(group_depths(drawn)) == MOST_SERIES
    assert series_of(drawn) == pytest.approx([*range(7), 10, *range(13, 21)])
    assert rows == nets
    assert left_out == [
        "Curves are drawn of 16 of 21 series, the reference and those whose training error rises most and least with "
        "depth, or is highest and lowest; 5 more series are in the tables."
    ]


def test_series_of_one_depth_are_chosen_by_their_error_and_unfinished_ones_last(tmp_path):
    errors = np.linspace(0, 0.5, 20)
    for number, error in enumerate(errors):
        write_run(tmp_path / f"{number}", error=error, optimizer__weight_decay=number / 1000)
    write_run(tmp_path / "going", status=None, optimizer__weight_decay=0.5)
    drawn, _, left_out = select(nets_in(tmp_path))
    assert series_of(drawn) == pytest.approx([*range(8), *range(12, 20)])
    assert "5 more series are in the tables" in left_out[0]


def test_of_many_nets_the_rows_are_the_extremes_in_their_order(many):
    nets = group_seeds(many)
    _, rows, left_out = select(nets)
    assert len(rows) == MOST_NETS
    assert [nets.index(net) for net in rows] == sorted(nets.index(net) for net in rows)
    errors = sorted(net.runs[0].final("train_clean") for net in nets)
    shown = sorted(net.runs[0].final("train_clean") for net in rows)
    assert shown == errors[:25] + errors[-25:]
    assert any("50 more nets are in the tables" in sentence for sentence in left_out)


@pytest.mark.parametrize(("count", "most"), [(0, 3), (1, 3), (3, 3), (4, 3), (100, 10)])
def test_a_spread_has_the_first_the_last_and_no_more_than_asked_for(count, most):
    found = spread(range(count), most)
    assert len(found) == min(count, most)
    assert len(set(found)) == len(found)
    assert not count or (found[0], found[-1]) == (0, count - 1)


def test_extremes_alternate_and_what_comes_first_counts():
    values = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    assert selection.with_extremes(["b"], values, 4) == ["b", "d", "a", "c"]
    assert selection.with_extremes([], values, 9) == ["d", "a", "c", "b"]


def test_figures_and_page_of_hundreds_of_nets_stay_of_a_size_that_one_can_open(many, tmp_path):
    found = find(many)
    panels = found.figures["curves"].axes
    assert len(panels) == MOST_SERIES
    assert max(len(panel.texts) for panel in panels) == MOST_DEPTHS
    assert all(len(line.get_xdata()) <= figures.MOST_POINTS for panel in panels for line in panel.lines)
    assert len(found.figures["nets"].axes[0].get_yticklabels()) == MOST_NETS
    for figure in found.figures.values():
        assert max(200 * figure.get_size_inches()) < MOST_PIXELS
    page = report("t", "q", many, found.drawn, [], [], found.not_drawn, [], found.sections)
    assert len(page.encode()) < MOST_BYTES + 5_000_000  # Of Plotly.
    assert len(found.not_drawn) == 3
    assert all(sentence in page for sentence in found.not_drawn)


def test_a_thinned_curve_ends_as_the_whole_one(tmp_path):
    write_run(tmp_path / "run", error=0.123, records=1500, steps=1500)
    (net,) = nets_in(tmp_path)
    steps, means, lows, highs = figures.curve_of_seeds(net, "train")
    assert {len(each) for each in (steps, means, lows, highs)} == {figures.MOST_POINTS}
    assert (steps[0], steps[-1], means[-1]) == (1, 1500, pytest.approx(0.123))
