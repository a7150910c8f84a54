"""The gallery: every study with an answer, at most four lines of verdict, contradictions in bold."""

import pytest

from resnet_jax.report import gallery

AGREES = {"result": "agrees", "sentence": "As in the literature: plain degrades (A)."}
CONTRADICTS = {"result": "contradicts", "sentence": "Contradicts the literature: residual degrades here, but not in B."}


def verdict(nets="plain, 20 / 56 layers", where="", brief="degrades, +1.00 (0.50 to 1.50)"):
    return {"nets": nets, "where": where, "brief": brief}


def study(**changes):
    return {
        "question": "Does it?",
        "run": "2 of 2 runs finished.",
        "commands": ["python -m experiments.sweep --config=a.py", "python -m experiments.publish results/a"],
        "answer": "It does.",
        "verdict": ["plain: degrades, with each seed's error."],
        "verdicts": [verdict()],
        "literature": [],
        "left_out": [],
        "figure": "curves",
        "inside": [],
    } | changes


def entry(**changes):
    _, _, text = gallery.page({"a": study(**changes)}, [], "").partition("## a\n\n")
    return text


def test_an_entry_has_question_answer_figure_and_verdict_and_leaves_the_rest_to_the_page():
    text = entry(literature=[AGREES])
    order = ["**Does it?**", "It does.", "(a/curves.png)", "- plain, 20 / 56 layers: degrades, +1.00 (0.50 to 1.50)"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert all(part not in text for part in ("2 of 2 runs", "experiments.sweep", "each seed's error", "As in the"))


def test_a_contradiction_is_marked_in_the_contents_and_is_the_first_line_of_the_verdict():
    page = gallery.page({"a": study(literature=[AGREES, CONTRADICTS])}, [], "")
    assert "| [a](#a) | Does it? | agrees, **contradicts** |" in page
    first, second = [line for line in page.splitlines() if line.startswith("- ")]
    assert first == f"- **{CONTRADICTS['sentence']}**"
    assert second.startswith("- plain, 20 / 56 layers")


@pytest.mark.parametrize(("verdicts", "lines"), [(4, 4), (5, 4), (20, 4), (0, 1)])
def test_an_entry_has_at_most_four_lines_of_verdict_and_counts_the_others(verdicts, lines):
    text = entry(verdicts=[verdict(f"net {number}") for number in range(verdicts)])
    bullets = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(bullets) == lines
    if verdicts == 0:  # Published by an earlier version.
        assert bullets == ["- plain: degrades, with each seed's error."]
    elif verdicts > 4:
        assert bullets[-1] == f"- {verdicts - 3} more on [its page](a/README.md)"
    else:
        assert bullets[-1].startswith("- net 3: ")


def test_a_tuned_study_has_a_table_with_a_column_for_each_verdict():
    best = "at the best learning rate tried"
    text = entry(verdicts=[verdict(where="at 0.1"), verdict(where=best, brief="inconclusive"), verdict("b", best)])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows == [
        f"| nets | at 0.1 | {best} |",
        "| --- | --- | --- |",
        "| plain, 20 / 56 layers | degrades, +1.00 (0.50 to 1.50) | inconclusive |",
        "| b |  | degrades, +1.00 (0.50 to 1.50) |",
    ]


def test_a_study_without_an_answer_and_reports_on_weights_are_listed_at_the_end():
    page = gallery.page({"a": study(), "start": study(answer="", question="For others?")}, ["weights"], "")
    _, _, further = page.partition("## Further records")
    assert "- [start](start/README.md), For others?" in further
    assert "- [weights](weights/why.md)" in further
    assert "## start" not in page


def test_a_question_of_several_lines_is_one_line_in_the_contents_and_the_entry():
    page = gallery.page({"a": study(question="Does\n\n  it?")}, [], "")
    assert "| [a](#a) | Does it? |" in page
    assert "**Does it?**" in page


def test_names_of_folders_are_text_in_headings_and_quoted_in_links():
    page = gallery.page({"a b[1]": study(figure="x y")}, [], "")
    assert r"## a b\[1\]" in page
    assert r"[![a b\[1\]](a%20b%5B1%5D/x%20y.png)](a%20b%5B1%5D/README.md)" in page


def test_contradictions_of_a_tuned_study_follow_its_table():
    text = entry(verdicts=[verdict(where="at 0.1")], literature=[AGREES, CONTRADICTS])
    assert text.index("| nets |") < text.index(f"- **{CONTRADICTS['sentence']}**")
    assert AGREES["sentence"] not in text


def test_studies_are_in_the_order_given_and_a_gallery_of_nothing_is_its_introduction():
    page = gallery.page({name: study() for name in "ba"}, [], "make gallery")
    assert page.index("## b") < page.index("## a")
    assert "`make gallery` makes this page" in page
    empty = gallery.page({}, [], "")
    assert "## " not in empty
    assert "|" not in empty
