"""The command that publishes a study, on made-up runs."""

import json
import shutil
import tarfile

import pytest

from resnet_jax.safe_files import archived
from tests.analysis.measured import measure
from tests.analysis.synthetic import write_run

QUESTION = "Does depth degrade a test?\n\nProtocol: two nets.\n\nIt does not show: anything."


@pytest.fixture
def study(tmp_path):
    """A folder of a sweep with two nets of three seeds."""
    folder = tmp_path / "runs" / "tiny"
    runs = {}
    for residual, kind in ((True, "residual"), (False, "plain")):
        for seed in range(3):
            runs[f"{kind}-20-seed{seed}"] = {"model.residual": residual, "seed": seed}
            write_run(folder / f"{kind}-20-seed{seed}", 20, residual, 0.1 + 0.4 * (not residual) + 0.01 * seed, seed)
    (folder / "plain-20-seed0" / "checkpoints").mkdir()
    (folder / "plain-20-seed0" / "checkpoints" / "weights").write_text("many")
    content = {"file": "configs/sweeps/tiny.py", "question": QUESTION, "runs": runs}
    content["command"] = ["python", "-m", "experiments.sweep", "--config=configs/sweeps/tiny.py"]
    (folder / "sweep.json").write_text(json.dumps(content))
    return folder


def relative_files(folder):
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_a_study_keeps_its_records_and_gets_a_page_with_question_command_verdict_and_figures(commands, study, tmp_path):
    out = tmp_path / "results"
    done = commands("publish", study, f"--out={out}")
    assert done.returncode == 0, done.stderr
    with tarfile.open(out / "records.tar.xz") as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    assert relative_files(tmp_path / "unpacked") == relative_files(study) - {"plain-20-seed0/checkpoints/weights"}
    for name in relative_files(tmp_path / "unpacked"):
        assert (tmp_path / "unpacked" / name).read_text() == (study / name).read_text()
    page = (out / "README.md").read_text()
    assert page.startswith("# Does depth degrade a test?\n\n![Final errors")
    assert "## What was run\n\nProtocol: two nets.\n\nIt does not show: anything.\n\n6 of 6 runs" in page
    assert "6 of 6 runs finished, 2026-01-01, each on 1 x cpu with JAX 0.10.2" in page
    assert "python -m experiments.sweep --config=configs/sweeps/tiny.py" in page
    assert "- plain-20 against residual-20: higher, +40.00 points of training error (95 % interval 3" in page
    for name in ("nets", "curves"):
        assert f"]({name}.png)" in page
        assert (out / f"{name}.png").stat().st_size > 10_000
    assert "depths.png" not in page  # Two depths do not make a curve.


def test_what_was_measured_is_kept_and_shown_next_to_runs_of_other_folders(commands, study, tmp_path):
    for run in study.glob("*-seed*"):
        measure(run, run.name.startswith("residual"), 20, int(run.name[-1]), 2 if "residual" in run.name else 10)
    others = tmp_path / "routes"
    write_run(others / "stop", 20, True, 0.3, gates__route="stop_gradient")
    out = tmp_path / "results"
    assert commands("publish", study, others, f"--out={out}").returncode == 0
    page = (out / "README.md").read_text()
    assert "## What the nets look like inside" in page
    assert "of 10.010 a layer" in page.replace("a factor ", "")
    for name in ("why_gradients", "why_routes"):
        assert f"]({name}.png)" in page
        assert (out / f"{name}.png").exists()
    assert "plain-20-seed1/diagnosis/gradients.jsonl" in archived(out)
    assert f"python -m experiments.publish {out} {others}" in page
    (out / "README.md").unlink()
    assert commands("publish", out, others, f"--out={out}").returncode == 0
    assert (out / "README.md").read_text() == page


def test_the_page_is_made_again_from_its_records(commands, study, tmp_path):
    out = tmp_path / "results"
    assert commands("publish", study, f"--out={out}").returncode == 0
    page, records = (out / "README.md").read_text(), (out / "records.tar.xz").read_bytes()
    (out / "README.md").unlink()
    assert commands("publish", out, f"--out={out}").returncode == 0
    assert (out / "README.md").read_text() == page
    assert commands("publish", study, f"--out={out}").returncode == 0  # In place of the earlier records.
    assert (out / "README.md").read_text() == page
    assert (out / "records.tar.xz").read_bytes() == records


def test_records_of_runs_that_are_no_longer_there_stay_and_the_others_are_replaced(commands, study, tmp_path):
    out = tmp_path / "results"
    assert commands("publish", study, f"--out={out}").returncode == 0
    shutil.rmtree(study / "plain-20-seed0")
    shutil.rmtree(study / "plain-20-seed1")
    write_run(study / "plain-20-seed1", 20, False, 0.9, 1)
    sweep = json.loads((study / "sweep.json").read_text())
    del sweep["runs"]["plain-20-seed0"]
    (study / "sweep.json").write_text(json.dumps(sweep))
    assert commands("publish", study, f"--out={out}").returncode == 0
    records = archived(out)
    assert "plain-20-seed0/config.json" in records
    assert json.loads(records["plain-20-seed1/summary.json"])["final"]["train_clean"]["error"] == 0.9


def test_a_folder_with_a_folder_for_each_run_is_read_and_packed(commands, study, tmp_path):
    earlier = tmp_path / "earlier"
    shutil.copytree(study, earlier, ignore=shutil.ignore_patterns("checkpoints"))
    assert commands("publish", earlier, f"--out={earlier}").returncode == 0
    assert (earlier / "plain-20-seed0").exists()
    assert commands("publish", study, f"--out={earlier}").returncode == 0
    assert sorted(file.name for file in earlier.iterdir()) == [
        *("README.md", "curves.png", "found.json", "nets.png", "records.tar.xz")
    ]
    other = shutil.copytree(study, tmp_path / "trained")
    done = commands("publish", earlier, f"--out={other}")
    weights = other / "plain-20-seed0" / "checkpoints" / "weights"
    assert f"--out={other} holds runs, not only their records: {weights}; choose another" in done.stderr
    assert weights.exists()


def test_your_own_answer_and_what_contradicts_the_literature_are_on_the_page_and_in_what_the_gallery_shows(
    commands, study, tmp_path
):
    sweep = json.loads((study / "sweep.json").read_text())
    for seed in range(3):
        write_run(study / f"residual-56-seed{seed}", 56, True, 0.5 + 0.01 * seed, seed)
        sweep["runs"][f"residual-56-seed{seed}"] = {"model.residual": True, "model.depth": 56, "seed": seed}
    sweep["runs"]["residual-56-seed3"] = {"model.residual": True, "model.depth": 56, "seed": 3}
    sweep["literature"] = {"residual": ["does not degrade", "He et al. 2015"]}
    (study / "sweep.json").write_text(json.dumps(sweep))
    out = tmp_path / "results"
    assert commands("publish", study, f"--out={out}").returncode == 0
    (out / "answer.md").write_text("Yes, in this test.\n")
    assert commands("publish", study, f"--out={out}").returncode == 0
    page, found = (out / "README.md").read_text(), json.loads((out / "found.json").read_text())
    assert page.startswith("# Does depth degrade a test?\n\nYes, in this test.\n\n![Final errors")
    assert "- residual, 20 to 56 layers: degrades" in page
    assert "- **Contradicts the literature: residual degrades here, but not in He et al. 2015.**" in page
    assert "9 of 10 runs finished" in page
    assert f"- 1 of 10 runs of {out} have not started: residual-56-seed3." in page
    assert found["question"] == "Does depth degrade a test?"
    assert found["answer"] == "Yes, in this test."
    assert found["literature"][0]["result"] == "contradicts"
    assert found["figure"] == "nets"  # Of plain nets there is one depth.


def test_what_is_no_study_or_is_another_is_refused(commands, study, tmp_path):
    def error(*words):
        done = commands("publish", *words)
        assert done.returncode == 2
        return done.stderr

    assert error().startswith("error: give the folder of a sweep, e.g. runs/digits_single or")
    run = study / "plain-20-seed0"
    assert error(run).startswith(f"error: {run} is not the folder of a sweep: it has no sweep.json; publish one like")
    out = tmp_path / "other"
    out.mkdir()
    (out / "file").write_text("mine")
    assert f"--out={out} holds something else than a study; choose another" in error(study, f"--out={out}")
    (out / "sweep.json").write_text(json.dumps({"file": "configs/sweeps/other.py", "runs": {}}))
    assert f"--out={out} holds the study configs/sweeps/other.py; choose" in error(study, f"--out={out}")
    assert (out / "file").read_text() == "mine"


def test_what_was_asked_for_is_in_the_command_of_the_page(commands, study, tmp_path):
    out = tmp_path / "results"
    done = commands("publish", study, f"--out={out}", "--rates", "--thresholds=0.5,0.2")
    assert done.returncode == 0, done.stderr
    page = (out / "README.md").read_text()
    assert f"python -m experiments.publish {out} --rates --thresholds=0.5,0.2 " in page
    assert "](rates.png)" in page
    assert "needs six depths" in page
