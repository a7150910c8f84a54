"""The page on the inside of nets: Markdown with pictures, and HTML; both have every statement, and names as text."""

import re

import numpy as np
import pytest

from resnet_jax.analysis.contrast import RULE
from resnet_jax.report import why_page
from resnet_jax.report.panels import Line, Panel, Plot
from resnet_jax.report.why import Page
from tests.analysis.measured import measurement
from tests.report.drawn import plotly_of

EVIL = "<script>x</script> [a](b) | c"
ESCAPED = "&lt;script&gt;x&lt;/script&gt; [a](b) | c"


def line(label, values):
    return Line(label, 20, False, np.arange(len(values)), np.array([values], float))


def panel(name, title, says="It differs.", plots=1, label="plain-20"):
    return Panel(name, title, [Plot("step 0", "block", "rank", [line(label, [1, 2])])] * plots, "Of 3 seeds.", says)


@pytest.fixture
def page():
    result = {"stem_filters": np.ones((1, 3, 3, 3)).tolist(), "channel_filters": {}}
    filters = {"plain-20, norm none/x": measurement("channels", result, 300)}
    return Page([panel("why_a", "A"), panel("why_b", "B", says=EVIL, plots=2)], filters, [f"Not measured: {EVIL}."])


def test_markdown_has_the_rule_then_each_panel_with_statement_picture_and_note_then_the_foot(page):
    text = why_page.markdown(page)
    assert text.startswith(RULE)
    parts = ["### A", "It differs.", "![A](why_a.png)", "Of 3 seeds.", "### B", "![B](why_b.png)", "### Filters of"]
    places = [text.index(part) for part in [*parts, "Not measured: "]]
    assert places == sorted(places)
    assert text.count(r"&lt;script>x&lt;/script> \[a\](b) \| c") == 2
    assert "<script" not in text


def test_html_has_each_statement_and_note_and_a_plot_of_its_own_numbers(page):
    text = why_page.sections(page, with_library=False)
    assert re.findall(r'<p class="says">(.*?)</p>', text) == ["It differs.", ESCAPED]
    assert re.findall(r'<p class="note">(.*?)</p>', text) == ["Of 3 seeds.", "Of 3 seeds.", why_page.FILTERS_NOTE]
    assert re.findall("<h2>(.*?)</h2>", text) == ["A", "B", "Filters of plain-20, norm none/x"]
    assert f"<p>Not measured: {ESCAPED}.</p>" in text
    assert plotly_of(text)[0][0]["y"] == [1, 2]
    assert text.count("Plotly.newPlot(") == 2


def test_a_plot_keeps_its_width_in_narrow_windows_for_each_of_its_parts(page):
    text = why_page.sections(page, with_library=False)
    assert re.findall(r"min-width: (\d+)rem\"", text) == [str(why_page.LEAST_WIDTH), str(2 * why_page.LEAST_WIDTH)]


def test_a_whole_page_has_the_library_once_and_asks_nothing_of_a_network(page):
    text = why_page.whole_page(page, f"python -m experiments.why {EVIL}")
    assert text.count("plotly.js v") == 1
    assert re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=", text) == []
    assert f"<pre>python -m experiments.why {ESCAPED}</pre>" in text
    assert "<script>x" not in text
    assert "plotly.js v" not in why_page.sections(page, with_library=False)


def test_names_of_files_of_filters_differ_and_have_only_letters_that_files_and_links_can_have():
    assert why_page.filters_names(["plain-20", "../a b, 0.1/<x>", "a b", "a_b"]) == {
        "plain-20": "why_filters_plain-20",
        "../a b, 0.1/<x>": "why_filters_.._a_b_0.1_x_",
        "a b": "why_filters_a_b",
        "a_b": "why_filters_a_b_4",
    }
    assert len(set(why_page.filters_names(["a_b_3", "a b", "a_b"]).values())) == 3


def test_writing_makes_both_pages_and_every_picture_that_they_show(page, tmp_path):
    why_page.write(tmp_path, page, "python -m experiments.why runs/tiny")
    text = (tmp_path / "why.md").read_text()
    assert text.startswith(f"# {why_page.TITLE}\n\n```sh\npython -m experiments.why runs/tiny\n```\n")
    pictures = set(re.findall(r"!\[[^]]*\]\((.*?)\)", text))
    assert pictures == {"why_a.png", "why_b.png", "why_filters_plain-20_norm_none_x.png"}
    vectors = {"why_a.svg", "why_b.svg"}
    assert {file.name for file in tmp_path.iterdir()} == {"why.md", "why.html"} | pictures | vectors
    for name in pictures:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    for name in vectors:
        assert "<svg" in (tmp_path / name).read_text()


def test_a_page_without_panels_is_its_rule_and_foot():
    page = Page([], {}, ["Not measured: all."])
    assert why_page.markdown(page) == f"{RULE}\n\nNot measured: all.\n"
    assert why_page.sections(page, with_library=True) == "<p>Not measured: all.</p>"
