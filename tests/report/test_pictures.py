"""Figures as files: in the format of the name, whole or not at all, with names as text."""

import pytest
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from resnet_jax.report import pictures


def figure(title="", **axes):
    drawn = Figure(figsize=(2, 1))
    drawn.subplots().set(title=title, **axes)
    return drawn


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_format_is_that_of_the_name(suffix, start, tmp_path):
    pictures.save(figure(), tmp_path / f"figure.{suffix}")
    assert (tmp_path / f"figure.{suffix}").read_bytes().startswith(start)


def test_pixels_are_inches_times_the_resolution(tmp_path):
    pictures.save(figure(), tmp_path / "figure.png", dpi=100)
    header = (tmp_path / "figure.png").read_bytes()[16:24]
    assert (int.from_bytes(header[:4], "big"), int.from_bytes(header[4:], "big")) == (200, 100)


def test_a_figure_that_cannot_be_drawn_leaves_the_picture_of_before(tmp_path):
    def fail(x, place):
        raise ValueError("no label")

    file = tmp_path / "figure.png"
    file.write_bytes(b"before")
    drawn = figure()
    drawn.axes[0].xaxis.set_major_formatter(FuncFormatter(fail))
    with pytest.raises(ValueError, match="no label"):
        pictures.save(drawn, file)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("figure.png", b"before")]


def test_a_part_of_a_page_is_one_svg_element():
    text = pictures.svg(figure())
    assert text.startswith("<svg")
    assert text.rstrip().endswith("</svg>")
    assert text.count("<svg") == 1


def test_titles_and_names_at_axes_are_text_with_control_characters_escaped():
    drawn = figure("$a$\x1b", xlabel="b\x07\nc")
    axes = drawn.axes[0]
    axes.set_xticks([0, 1], ["$d$", "e\x00"])
    pictures.make_literal(drawn)
    assert (axes.get_title(), axes.get_xlabel()) == (r"$a$\x1b", "b\\x07\nc")
    assert not axes.title.get_parse_math()
    drawn.draw_without_rendering()
    labels = axes.get_xticklabels()
    assert [label.get_text() for label in labels] == ["$d$", r"e\x00"]
    assert not any(label.get_parse_math() for label in labels)


def test_numbers_at_a_logarithmic_axis_stay_powers_of_ten():
    drawn = figure()
    axes = drawn.axes[0]
    axes.plot([1, 1000], [0, 1])
    axes.set_xscale("log")
    pictures.make_literal(drawn)
    drawn.draw_without_rendering()
    labels = [label for label in axes.get_xticklabels() if label.get_text()]
    assert any("10^{" in label.get_text() for label in labels)
    assert all(label.get_parse_math() for label in labels)


def test_labels_are_escaped_once_however_often_a_figure_is_rendered():
    drawn = figure()
    axis = drawn.axes[0].xaxis
    axis.set_major_formatter(FuncFormatter(lambda x, place: "\\\x1b"))
    for _ in range(2):
        pictures.make_literal(drawn)
        assert axis.get_major_formatter()(0.0) == r"\\x1b"
