"""What the page of a study says of how its runs were made."""

import json

from resnet_jax.analysis.runs import read_runs
from resnet_jax.report.study import mixture
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
