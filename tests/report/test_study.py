"""The page of a study: its order, its verdict, and how its runs were made."""

import json

from resnet_jax.analysis.runs import read_runs
from resnet_jax.report.findings import find
from resnet_jax.report.study import mixture, page, summary
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


def page_of(folder, rates, **changes):
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
    study = summary(sweep, runs, found, [], "publish", "It does.")
    return page(sweep, study, found, []), study


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
    assert "| nets | at learning rate 0.1 | at the best learning rate tried |" in text
    assert "<details><summary>All 5 sentences, with each seed's error</summary>" in text
