"""The gallery: every study with an answer, contradictions in bold, long verdicts folded."""

from resnet_jax.report import gallery

AGREES = {"result": "agrees", "sentence": "As in the literature: plain degrades (A)."}
CONTRADICTS = {"result": "contradicts", "sentence": "Contradicts the literature: residual degrades here, but not in B."}


def study(**changes):
    return {
        "question": "Does it?",
        "run": "2 of 2 runs finished, 2026-01-01, each on 1 x cpu with JAX 0.10.2; 0.1 hours of training in all.",
        "commands": ["python -m experiments.sweep --config=a.py", "python -m experiments.publish results/a"],
        "answer": "It does.",
        "verdict": ["plain: degrades."],
        "literature": [],
        "left_out": [],
        "figure": "curves",
        "inside": [],
    } | changes


def test_an_entry_has_question_answer_figure_verdict_runs_and_commands():
    page = gallery.page({"a": study(literature=[AGREES])}, [], "python -m experiments.gallery")
    assert "| [a](#a) | Does it? | agrees |" in page
    _, _, entry = page.partition("## a\n\n")
    order = [
        "**Does it?**",
        "It does.",
        "(a/curves.png)",
        "- plain: degrades.",
        "- As in the literature",
        "2 of 2 runs",
    ]
    order += ["(a/README.md).", "experiments.sweep --config=a.py", "experiments.publish results/a"]
    places = [entry.index(part) for part in order]
    assert places == sorted(places)


def test_a_contradiction_is_marked_in_the_contents_and_in_bold():
    page = gallery.page({"a": study(literature=[AGREES, CONTRADICTS])}, [], "")
    assert "| agrees, **contradicts** |" in page
    assert f"- **{CONTRADICTS['sentence']}**" in page
    assert f"- {AGREES['sentence']}" in page


def test_a_long_verdict_and_what_is_inside_are_folded():
    short = gallery.page({"a": study()}, [], "")
    assert "<details>" not in short
    inside = [{"figure": "why_loss", "says": "Losses differ."}]
    page = gallery.page({"a": study(verdict=["x"] * 3, left_out=["y"] * 2, inside=inside)}, [], "")
    assert "<summary>Verdict, in 5 sentences</summary>" in page
    assert "<summary>Inside the nets, in 1 panels</summary>" not in page
    assert "<summary>Inside the nets</summary>\n\n- Losses differ." in page


def test_a_study_without_an_answer_and_reports_on_weights_are_listed_at_the_end():
    page = gallery.page({"a": study(), "start": study(answer="", question="For others?")}, ["weights"], "")
    _, _, further = page.partition("## Further records")
    assert "- [start](start/README.md), For others?" in further
    assert "- [weights](weights/why.md)" in further
    assert "## start" not in page
