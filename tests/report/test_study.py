"""The page of a study: its order, its verdict, and how its runs were made."""

import json
import re

from resnet_jax.analysis.runs import read_runs
from resnet_jax.report.findings import find
from resnet_jax.report.study import (
    GAPS,
    brief_rows,
    chief_figure,
    emphasised,
    mixture,
    page,
    summary,
    verdict_table,
    what_was_run,
)
from tests.analysis.synthetic import write_run


def start(revision="a" * 40, dirty=False, device="cpu", **more):
    return {
        "time": "2026-01-01T00:00:00Z",
        "git_revision": revision,
        "git_dirty": dirty,
        "device_kind": device,
        "device_count": 1,
        "packages": {},
        **more,
    }


def said(folder, *starts, dtypes=("float32",)):
    for number, each in enumerate(starts):
        run = write_run(folder / f"{number}", seed=number, dtype=dtypes[number % len(dtypes)])
        (run / "environment.json").write_text(json.dumps([each]))
    return mixture(read_runs([folder])[0])


def test_runs_of_one_clean_revision_are_said_to_be_that(tmp_path):
    assert said(tmp_path, start(), start()) == " Trained by revision aaaaaaa."


def test_several_revisions_and_changed_files_are_named(tmp_path):
    changed = [f"file{number}.py" for number in range(7)]
    starts = start(), start("b" * 40, True, git_changed=changed), start(None), start("b" * 40, True)
    assert said(tmp_path, *starts) == (
        " Trained by aaaaaaa, bbbbbbb, unknown: 3 revisions of the code, 2 of 4 starts with local changes in file0.py, "
        "file1.py, file2.py, file3.py, file4.py, 3 more files."
    )


def test_different_devices_and_numeric_types_are_named(tmp_path):
    found = said(tmp_path, start(), start(device="NVIDIA H100"), dtypes=("float32", "bfloat16"))
    assert "Runs are of different kinds of device, NVIDIA H100, cpu, which round differently." in found
    assert "Runs are of different numeric types, bfloat16, float32, which round differently." in found
    assert "convolutions" not in found  # Runs of before, without a record of the form, were of lax.
    found = said(tmp_path / "forms", start(), start() | {"convolutions": "onednn"})
    assert "Runs are of different forms of convolutions on CPUs, lax, onednn, which round differently." in found


def page_of(folder, rates, inside=None, **changes):
    """Return the page and the summary of a sweep of two depths, three seeds and some learning rates."""
    for depth in (20, 56):
        for seed in range(3):
            for rate in rates:
                name = f"{depth}-{seed}-{rate}"
                write_run(
                    folder / name,
                    depth,
                    False,
                    0.1 + 0.3 * (depth == 56) + 0.01 * seed,
                    seed,
                    validation=0.1,
                    optimizer__learning_rate=rate,
                )
    runs, _ = read_runs([folder])
    sweep = {
        "question": "Does it?\n\nProtocol: two nets.",
        "runs": {run.name: {} for run in runs},
        "command": ["sweep"],
    }
    found = find(runs, [sweep], **changes)
    study = summary(sweep, runs, found, [], "publish", "It does.", inside)
    return page(sweep, study, found, [], inside), study


def test_a_page_opens_with_the_answer_and_the_figure_and_then_has_the_verdict_and_what_was_run(tmp_path):
    text, study = page_of(tmp_path, [0.1])
    parts = ["# Does it?", "It does.", f"({study['figure']}.png)", "## Verdict", "- plain, 20 to 56 layers: degrades"]
    parts += [
        "## What was run",
        "Protocol: two nets.",
        "6 of 6 runs finished",
        "sweep\npublish",
        "## Figures and tables",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.count(f"({study['figure']}.png)") == 1


def test_many_sentences_are_folded_below_a_table_of_verdicts(tmp_path):
    text, study = page_of(tmp_path, [0.01, 0.1, 1.0], tuned=("optimizer.learning_rate", 0.1))
    assert len(study["verdict"]) == 4
    assert "<details>" not in text
    runs, _ = read_runs([tmp_path])
    found = find(runs, tuned=("optimizer.learning_rate", 0.1))
    more = study | {"verdict": [*study["verdict"], "One more."]}
    text = page({"question": "Does it?", "runs": {}, "command": []}, more, found, [])
    assert f"{GAPS}\n\n| nets | at learning rate 0.1 | at the best learning rate tried |" in text
    assert "<details><summary>All 5 sentences, with each seed's error</summary>" in text


def test_what_was_run_has_finished_runs_dates_devices_versions_and_hours(tmp_path):
    dates = ("2026-01-03", "2026-01-01", "2026-01-02")
    for number, date in enumerate(dates):
        run = write_run(tmp_path / f"{number}", seed=number, status="finished" if number else None)
        starts = [start(device="NVIDIA H100"), start(device="cpu", packages={"jax": "0.10.2"})]
        (run / "environment.json").write_text(json.dumps([each | {"time": f"{date}T10:00:00Z"} for each in starts]))
        if number:
            summary = json.loads((run / "summary.json").read_text())
            (run / "summary.json").write_text(json.dumps(summary | {"seconds": 9000.0}))
    words = what_was_run(read_runs([tmp_path])[0], planned=5)
    assert words.startswith(
        "2 of 5 runs finished, 2026-01-01 to 2026-01-03, each on 1 x NVIDIA H100 or 1 x cpu with JAX 0.10.2, JAX None; "
        "5.0 hours of training in all."
    )


def test_runs_without_a_recorded_environment_are_described_without_one(tmp_path):
    for name, dtype in (("a", "float32"), ("b", "bfloat16")):
        (write_run(tmp_path / name, dtype=dtype) / "environment.json").unlink()
    words = what_was_run(read_runs([tmp_path])[0], planned=2)
    assert words.startswith("2 of 2 runs finished; 0.0 hours of training in all. Runs are of different numeric types")


def found_of(folder):
    return find(read_runs([folder])[0])


def test_the_chief_figure_shows_rates_then_depths_then_curves_of_few_series_over_depth(tmp_path):
    write_run(tmp_path / "a", 20)
    assert chief_figure(found_of(tmp_path)) == "nets"  # A single depth: curves show no degradation.
    write_run(tmp_path / "b", 56)
    assert chief_figure(found_of(tmp_path)) == "curves"
    for number in range(1, 4):
        for depth in (20, 56):
            write_run(tmp_path / f"{number}-{depth}", depth, optimizer__weight_decay=number / 1000)
    assert chief_figure(found_of(tmp_path)) == "nets"  # Of four series.
    write_run(tmp_path / "c", 110)
    found = found_of(tmp_path)
    assert chief_figure(found) == "depths"
    assert chief_figure(found._replace(figures=found.figures | {"rates": None})) == "rates"


def verdict(nets="plain, 20 / 56 layers", where="", brief="degrades, +1.00 (0.50 to 1.50)"):
    return {"nets": nets, "where": where, "brief": brief}


def test_a_table_of_verdicts_has_a_row_for_each_pair_and_a_column_for_each_value():
    table = verdict_table(
        [verdict(where="at 0.1"), verdict(where="at best", brief="alike"), verdict("a | b", "at best")]
    )
    assert table.splitlines() == [
        "| nets | at 0.1 | at best |",
        "| --- | --- | --- |",
        "| plain, 20 / 56 layers | degrades, +1.00 (0.50 to 1.50) | alike |",
        r"| a \| b |  | degrades, +1.00 (0.50 to 1.50) |",
    ]
    assert "| nets | verdict |" in verdict_table([verdict()])


def test_a_contradiction_is_bold_and_other_comparisons_are_not():
    contradicts, agrees = ({"result": result, "sentence": "a | b"} for result in ("contradicts", "agrees"))
    assert (emphasised(contradicts), emphasised(agrees)) == (r"**a \| b**", r"a \| b")


def test_a_summary_has_the_words_and_numbers_of_the_findings(tmp_path):
    _, study = page_of(tmp_path, [0.1])
    assert (study["question"], study["answer"]) == ("Does it?", "It does.")
    assert study["commands"] == ["sweep", "publish"]
    assert study["figure"] == "curves"
    # Welch: variances of 1e-4 with 4 degrees of freedom.
    half = 100 * 2.7764 * (2 * 1e-4 / 3) ** 0.5
    assert study["verdicts"] == [verdict(brief=f"degrades, +30.00 ({30 - half:.2f} to {30 + half:.2f})")]
    assert json.loads(json.dumps(study)) == study


def test_a_page_shows_the_inside_of_nets_and_every_figure_once(tmp_path, inside):
    text, study = page_of(tmp_path, [0.1], inside=inside)
    for panel in inside.panels:
        assert text.count(f"({panel.name}.png)") == 1
    assert re.findall(r"\]\((\w+)\.png\)", text)[:2] == ["curves", "nets"]
    assert study["inside"] == [{"figure": panel.name, "says": panel.says} for panel in inside.panels]


def test_the_table_of_a_page_leaves_out_best_errors_and_times():
    row = {"net": "a", "test error (%)": "1", "best test error (%)": "1", "seconds": "2", "parameters": "3"}
    assert brief_rows([row]) == [{"net": "a", "test error (%)": "1", "parameters": "3"}]
