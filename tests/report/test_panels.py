"""Lines of panels: the measurements of each seed, and what is written next to them."""

import numpy as np
import pytest

from resnet_jax.analysis.diagnosed import START, Diagnosed
from resnet_jax.analysis.runs import read_run
from resnet_jax.instruments import END
from resnet_jax.report import panels
from tests.analysis.measured import BLOCKS, measurement
from tests.analysis.synthetic import write_run


def net(*measurements, residual=False, depth=20, run=None):
    label = f"{'residual' if residual else 'plain'}-{depth}"
    return Diagnosed(label, residual, depth, label, run, list(measurements))


def ranks(values, step=300):
    return measurement("feature_rank", {"rank": values}, step)


def test_a_line_has_the_values_of_each_seed_over_the_numbers_of_blocks():
    seeds = [net(ranks([1, 2, 3, 4])), net(ranks([5, 6, 7, 8])), net(ranks([9, 9, 9, 9], step=0))]
    [line] = panels.over_blocks({"plain-20": seeds}, "feature_rank", END, "rank")
    np.testing.assert_array_equal(line.x, [1, 2, 3, 4])
    np.testing.assert_array_equal(line.values, [[1, 2, 3, 4], [5, 6, 7, 8]])  # The third was measured at step 0 only.
    assert (line.label, line.depth, line.is_dashed) == ("plain-20", 20, True)


def test_marks_are_the_places_of_blocks_with_which_a_stage_begins():
    [line] = panels.over_blocks({"a": [net(ranks([1, 2, 3, 4]))]}, "feature_rank", END, "rank")
    assert [BLOCKS[place] for place in line.marks] == ["stage2/block0", "stage3/block0"]


def test_a_value_that_could_not_be_measured_is_missing_in_its_line():
    [line] = panels.over_blocks({"a": [net(ranks([1, None, 3, 4]))]}, "feature_rank", END, "rank")
    np.testing.assert_array_equal(line.values, [[1, np.nan, 3, 4]])


@pytest.mark.parametrize("by_batch", [{}, {"deleted_by_batch": None}])
def test_nets_without_the_quantity_have_no_line(by_batch):
    one = measurement("deletions", {"deleted": {"test": [0.1, 0.2, 0.3, 0.4]}} | by_batch, 300)
    groups = {"a": [net(one)], "b": [net()]}
    [line] = panels.over_blocks(groups, "deletions", END, "deleted", "test")
    np.testing.assert_array_equal(line.values, [[0.1, 0.2, 0.3, 0.4]])
    assert panels.over_blocks(groups, "deletions", END, "deleted_by_batch", "test") == []
    assert panels.over_blocks({}, "deletions", END, "deleted", "test") == []


def test_a_residual_net_is_drawn_solid_and_knows_the_classes_of_its_data(tmp_path):
    x, values = np.arange(2), np.zeros((1, 2))
    run = read_run(write_run(tmp_path / "run", data__name="cifar100"))
    assert not panels.line_of("a", net(ranks([]), residual=True), x, values).is_dashed
    assert panels.line_of("a", net(ranks([])), x, values).classes == 10  # Weights, measured on the digits.
    assert panels.line_of("a", net(ranks([]), run=run), x, values).classes == 100
    foreign = ranks([])._replace(data="my_images")
    assert panels.line_of("a", net(foreign), x, values).classes is None


def test_a_note_has_images_statistics_and_seeds():
    groups = {"a": [net(ranks([1]), ranks([1], step=0))] * 3, "b": [net(ranks([1]))]}
    note = panels.note_of(groups, "feature_rank", END)
    assert note.startswith("Batches of 128 of 512 images, running statistics. Median and range of 1 to 3 seeds; ")
    both = panels.note_of(groups, "feature_rank", START, END)
    assert "images, batch statistics or running statistics." in both
    assert "images, batch statistics." in panels.note_of(groups, "feature_rank", END, is_training=True)
    assert "range of 1 seed; " in panels.note_of({"b": groups["b"]}, "feature_rank", END)
    assert panels.note_of(groups, "gradients", END) == ""


@pytest.mark.parametrize(
    ("y", "classes", "guessing"),
    [
        ("test error (%)", [10, 10], 0.9),
        ("final error (%), median over seeds", [100], 0.99),
        ("test error (%)", [10, 100], None),
        ("test error (%)", [10, None], None),
        ("rank", [10], None),
        ("share (%)", [10], None),
        ("error (share)", [10], None),
    ],
)
def test_a_plot_of_errors_in_per_cent_has_the_error_of_guessing_of_its_only_number_of_classes(y, classes, guessing):
    lines = [panels.Line("a", 20, False, np.arange(2), np.zeros((1, 2)), classes=each) for each in classes]
    assert panels.Plot("", "block", y, lines).guessing == guessing


def test_fractions_become_per_cent_and_lines_stay_otherwise():
    line = panels.Line("a", 20, True, np.arange(2), np.array([[0.125, np.nan]]), (1,), 10)
    [found] = panels.in_per_cent([line])
    np.testing.assert_array_equal(found.values, [[12.5, np.nan]])
    assert found._replace(values=line.values) == line


@pytest.mark.parametrize(
    ("value", "short", "percent", "three"),
    [
        (0.0123, "0.012", "1.2 %", "0.012"),
        (0.5, "0.5", "50.0 %", "0.500"),
        (9.96, "10", "996.0 %", "9.960"),
        (10.4, "10", "1040.0 %", "10.400"),
        (-123.4, "-123", "-12340.0 %", "-123.400"),
    ],
)
def test_numbers_are_written_with_the_digits_of_their_quantity(value, short, percent, three):
    assert (panels.short(value), panels.percent(value), panels.three_digits(value)) == (short, percent, three)


def test_the_last_value_of_nothing_is_missing():
    assert [panels.last_of(values) for values in ([1.0, 2.0], [], None)] == [2.0, None, None]
