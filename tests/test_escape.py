"""Names and texts of others, shown as text whatever they hold."""

import io
import re

import pytest
from matplotlib.figure import Figure
from rich.progress import Progress
from rich.table import Table

from resnet_jax import terminal
from resnet_jax.escape import fenced, markdown, printable, prose
from resnet_jax.report import gallery, pictures, study, tables

CONTROL = "a\x1b[2J\x9b1m\rb\n\x07\u202e\u2028\x00\udcff"
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=http://tracker.example/x.png>",
    "![x](http://tracker.example/x.png)",
    "![x][y]\n\n[y]: http://tracker.example/x.png",
    "[click](javascript:alert(1))",
    r"\[click](javascript:alert(1))",
    r"\\[click](javascript:alert(1))",
    r"!\[x](http://tracker.example/x.png)",
    r"!\\[x](http://tracker.example/x.png)",
    "[x]\\(http://tracker.example)",
    r"\<script>alert(1)</script>",
    r"\\<script>alert(1)</script>",
    "<http://tracker.example>",
    "`<b>`` <script>alert(1)</script>",
    "```\n<script>alert(1)</script>",
    "~~~\n\n# swallowed",
    "\\```\n<script>alert(1)</script>",
    "a | b || c",
    r"a \| b \\| c",
    "<!-- ",
    "<details><summary>",
    "a\n\n<script>alert(1)</script>",
]


def html_of(text):
    """Return the HTML that an independent reader of Markdown makes of ``text``."""
    reader = pytest.importorskip("markdown_it", reason="markdown-it-py, which rich brings, is not installed")
    return reader.MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(text)


def assert_harmless(page):
    shown = html_of(page)
    assert not set(re.findall(r"<(\w+)", shown)) & {"script", "img", "a", "details", "summary"}, shown
    assert "<!--" not in shown


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_of_others_is_text(text):
    for page in (f"- {markdown(text)}", f"# {markdown(text)}", f"a\n\n{prose(text)}\n\nb", f"{fenced(text)}\n"):
        assert_harmless(page)
    assert markdown(markdown(text)) == markdown(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_rest_of_a_page_is_not_swallowed(text):
    for page in (f"- {markdown(text)}", prose(text), fenced(text)):
        assert "<h2>Next</h2>" in html_of(f"{page}\n\n## Next\n")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_of_a_table_stays_one_cell(text):
    for each in (text, prose(text)):
        page = tables.markdown_table([{"net": each, "error": "1 %"}])
        assert_harmless(page)
        assert html_of(page).count("<td") == 2


@pytest.mark.parametrize("text", ["a*b", "a | b [c] `d` <e> \\ ~f~", "![x](y)", "[0, 1], [0.25, 0.75]: degrades"])
def test_what_markdown_shows_is_the_text(text):
    shown = html_of(markdown(text)).removeprefix("<p>").removesuffix("</p>\n")
    assert shown == text.replace("<", "&lt;").replace(">", "&gt;")


def test_prose_keeps_paragraphs_lists_emphasis_and_code():
    text = "Does it?\n\n- *one*, `two`\n- **three** (He et al. 2015)"
    assert prose(text) == text


def test_a_command_does_not_close_its_block():
    shown = html_of(fenced("python -c '\n```\n<script>````\n'"))
    assert shown.count("<pre>") == shown.count("</pre>") == 1
    assert shown.endswith("</code></pre>\n")
    assert "\x1b" not in fenced(CONTROL)


def test_the_gallery_escapes_what_studies_hold():
    evil = "![x](http://tracker.example/x.png) <script>alert(1)</script>"
    content = {
        "question": evil,
        "answer": evil,
        "run": evil,
        "verdict": [evil] * 5,
        "left_out": [evil],
        "literature": [{"sentence": evil, "result": "contradicts"}],
        "inside": [{"figure": "x", "says": evil}],
        "figure": "x.png) <script>",
        "commands": ["```\n<script>", evil],
    }
    tuned = content | {"verdicts": [{"nets": evil, "where": evil, "brief": evil}]}
    content |= {"verdicts": [{"nets": evil, "where": "", "brief": evil}]}
    studies = {"a](b) <script>": content, "tuned": tuned, "other": content | {"answer": ""}}
    page = gallery.page(studies, ["](b) <script>"], "make")
    shown = html_of(page)
    assert "<script" not in shown
    assert re.findall(r'(?:src|href)="http', shown) == []
    assert study.emphasised(content["literature"][0]).startswith(r"**!\[x\]")


def test_control_characters_are_shown_as_escapes():
    assert printable(CONTROL) == r"a\x1b[2J\x9b1m\rb\n\x07\u202e\u2028\x00\udcff"
    assert printable("café 日本 ± 1 %") == "café 日本 ± 1 %"


@pytest.mark.parametrize("name", ["[/x]", "[red]", ":smile:", CONTROL, "[link=http://a]b"])
def test_the_terminal_shows_names_as_they_are(name, capsys):
    stream = io.StringIO()
    console = terminal.Terminal(file=stream, width=200)
    table = Table(name, title=name, caption=name)
    table.add_row(name)
    console.print(name)
    console.print(table)
    with Progress(terminal.PlainColumn("{task.description}"), console=console) as progress:
        progress.add_task(name)
    terminal.say(name)
    said, drawn = capsys.readouterr().out, stream.getvalue()
    assert said == printable(name) + "\n"
    for text in (said, drawn):
        assert all(each.isprintable() for each in text.replace("\n", ""))
    if name != CONTROL:
        assert drawn.count(name) == 6


def test_the_log_and_the_error_of_a_command_show_names_as_they_are(commands):
    program = f"""
import sys
from absl import logging
from experiments import command
from resnet_jax.errors import UserError

def main(arguments):
    logging.warning("a warning about %s", {CONTROL!r})
    raise UserError("an error about " + {CONTROL!r})

sys.argv[1:] = []
command.run(main)
"""
    done = commands("", program=program)
    assert done.returncode == 2, done.stderr
    assert all(each.isprintable() for each in done.stderr.replace("\n", ""))
    assert r"a warning about a\x1b[2J" in done.stderr
    assert r"error: an error about a\x1b[2J" in done.stderr


@pytest.mark.parametrize("name", [r"$\frac{$", "$x$", r"\$", "a$b", CONTROL, "_hidden"])
@pytest.mark.parametrize("suffix", ["png", "svg"])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_in_figures_are_no_mathematics(name, suffix, tmp_path):
    figure = Figure(layout="constrained")
    panel = figure.subplots()
    panel.plot([1, 100], [1, 2], label=name)
    panel.set_title(name)
    panel.set_yticks([1, 2], [name, name])
    panel.set_xlabel(name)
    panel.set_xscale("log")
    panel.annotate(name, (1, 1))
    figure.legend(*panel.get_legend_handles_labels())
    figure.suptitle(name)
    file = tmp_path / f"figure.{suffix}"
    pictures.save(figure, file)
    assert file.stat().st_size > 1000
    if suffix == "svg":
        text = file.read_text(encoding="utf-8")
        assert "$\\mathdefault{10^{1}}$" in text, "the numbers of a logarithmic axis are powers"


def test_a_figure_shows_dollars_as_characters(tmp_path):
    widths = []
    for name in ("$1$", "1"):
        figure = Figure(figsize=(2, 1))
        text = figure.text(0, 0, name)
        pictures.save(figure, tmp_path / "figure.png")
        widths.append(text.get_window_extent().width)
    assert widths[0] > 2 * widths[1]
