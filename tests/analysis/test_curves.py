"""Reading runs and drawing them."""

import json

import numpy as np
import pytest

from configs import recipes
from resnet_jax.analysis import draw_curves, read_run
from resnet_jax.errors import UserError


def write_run(folder, depth, residual, errors):
    """Write a run directory with running training errors and test errors ``errors`` at steps 10, 20, ..."""
    folder.mkdir()
    config = recipes.digits(depth, residual).to_dict()
    (folder / "config.json").write_text(json.dumps({"version": 1, "command": [], "config": config}))
    lines = [
        {"step": 10 * (index + 1), "split": split, "loss": 1.0, "error": error}
        for index, error in enumerate(errors)
        for split in ("train", "test")
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_run_is_read_as_it_was_written(tmp_path):
    run = read_run(write_run(tmp_path / "run", 56, residual=False, errors=[0.9, 0.5]))
    assert (run.kind, run.depth, run.net, run.summary) == ("plain", 56, "plain-56", None)
    steps, errors = run.curve("train")
    np.testing.assert_array_equal(steps, [10, 20])
    np.testing.assert_array_equal(errors, [0.9, 0.5])


def test_a_line_being_written_is_left_out(tmp_path):
    folder = write_run(tmp_path / "run", 56, residual=False, errors=[0.9, 0.5])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "sp')
    assert len(read_run(folder).metrics) == 4


def test_a_damaged_line_and_a_folder_without_a_run_are_told(tmp_path):
    folder = write_run(tmp_path / "run", 56, residual=False, errors=[0.9])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("{damaged}\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged .* remove the damaged lines or the run"):
        read_run(folder)
    with pytest.raises(UserError, match=r"holds no run, for there is no .*config\.json; name a run directory"):
        read_run(tmp_path)


def test_the_figure_has_a_panel_a_kind_a_colour_a_depth_and_bold_test_error(tmp_path):
    curves = {(20, False): 0.1, (56, False): 0.7, (20, True): 0.2, (56, True): 0.05}
    runs = [
        read_run(write_run(tmp_path / f"{depth}-{residual}", depth, residual, [0.9, error]))
        for (depth, residual), error in curves.items()
    ]
    figure = draw_curves(runs)
    plain, residual = figure.axes
    assert [panel.get_title() for panel in figure.axes] == ["plain nets", "residual nets"]
    assert plain.get_ylabel() == "error (%)"
    assert plain.get_xlabel() == "step (mini-batches)"
    drawn = {
        (line.get_color(), line.get_linewidth(), round(line.get_ydata()[-1], 6))
        for panel in figure.axes
        for line in panel.lines
    }
    colours = {round(line.get_ydata()[-1], 6): line.get_color() for line in plain.lines}
    thin, bold = sorted({width for _, width, _ in drawn})
    assert drawn == {
        (colour, width, error)
        for colour, errors in ((colours[10], (10, 20)), (colours[70], (70, 5)))
        for error in errors
        for width in (thin, bold)
    }
    legend = [text.get_text() for text in residual.get_legend().get_texts()]
    assert legend == ["20 layers", "56 layers", "thin: training error", "bold: test error"]
    assert plain.get_xlim() == (0, 300)
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
