"""Nothing is read or written outside the folders that the user names, whatever names and links others left in them."""

import json
import shutil

import pytest

from resnet_jax import archive
from resnet_jax.errors import UserError
from resnet_jax.instruments import diagnosis
from resnet_jax.training import train
from tests.analysis.measured import measure, measurement
from tests.analysis.synthetic import write_run


@pytest.fixture
def sweep(tmp_path):
    """Return the folder of a sweep with two runs."""
    folder = tmp_path / "theirs" / "sweep"
    for seed in range(2):
        write_run(folder / f"plain-20-seed{seed}", 20, False, 0.1, seed)
    measure(folder / "plain-20-seed0", False, 20, 0, 2)
    write_sweep(folder, "plain-20-seed0", "plain-20-seed1")
    return folder


def write_sweep(folder, *names):
    content = {"file": "tiny.py", "question": "Why?", "command": ["python"], "runs": {name: {} for name in names}}
    (folder / "sweep.json").write_text(json.dumps(content))


@pytest.fixture
def outside(tmp_path):
    """Return a folder of the user; afterwards nothing in it may have changed."""
    folder = tmp_path / "mine"
    write_run(folder / "secret", 20, False, 0.1, 7)
    before = content_of(folder)
    yield folder
    assert content_of(folder) == before


def content_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(done, words):
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_names_of_runs_lead_nowhere(commands, sweep, outside, tmp_path):
    write_sweep(sweep, "plain-20-seed0", "../../mine/secret")
    out = tmp_path / "results"
    for words in (("publish", sweep, f"--out={out}"), ("sweep", f"--folder={sweep}", "--watch"), ("compare", sweep)):
        assert_refused(commands(*words), "has a run '../../mine/secret', which is not the name of a folder")
    assert_refused(commands("compare", sweep, "--watch"), "which is not the name of a folder")
    assert not out.exists()


def test_publish_copies_nothing_through_links(commands, sweep, outside, tmp_path):
    out = tmp_path / "results"
    for inside, target in (
        ("plain-20-seed1/metrics.jsonl", "secret/metrics.jsonl"),
        ("plain-20-seed1/diagnosis", "secret"),
        ("plain-20-seed0/diagnosis/gradients.jsonl", "secret/metrics.jsonl"),
        ("plain-20-seed1", "secret"),
    ):
        shutil.copytree(sweep, sweep.with_name("kept"))
        place = sweep / inside
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        if inside.endswith("seed1/diagnosis"):
            shutil.copyfile(outside / "secret" / "metrics.jsonl", tmp_path / "x.jsonl")
            target = ".."  # With the file x.jsonl.
        place.symlink_to(outside / target)
        done = commands("publish", sweep, f"--out={out}")
        assert_refused(done, inside)
        shutil.rmtree(sweep)
        sweep.with_name("kept").rename(sweep)
        shutil.rmtree(out, ignore_errors=True)


@pytest.mark.slow
def test_publish_writes_nothing_through_links(commands, sweep, outside, tmp_path):
    out = tmp_path / "results"
    assert commands("publish", sweep, f"--out={out}").returncode == 0
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {"README.md", "found.json", "curves.png", archive.FILE} <= {path.name for path in files}
    for path in files:
        if path.name != archive.FILE:  # It is read, too.
            path.unlink()
            path.symlink_to(outside / "secret" / "config.json")
        path.with_name(path.name + ".partial").symlink_to(outside / "secret" / "config.json")
    done = commands("publish", sweep, f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert not [path for path in files if path.is_symlink()]
    (out / "plain-20-seed1").symlink_to(outside / "secret")
    assert_refused(commands("publish", sweep, f"--out={out}"), "plain-20-seed1")


@pytest.mark.slow
def test_compare_reads_and_writes_nothing_through_links(commands, sweep, outside):
    assert commands("compare", sweep).returncode == 0
    files = [path for path in (sweep / "comparison").iterdir() if path.is_file()]
    assert {"report.html", "curves.png", "nets.svg", "table.csv"} <= {path.name for path in files}
    for path in files:
        path.unlink()
        path.symlink_to(outside / "secret" / "config.json")
        path.with_name(path.name + ".partial").symlink_to(outside / "secret" / "config.json")
    linked = sweep / "plain-20-seed1" / "config.json"
    linked.unlink()
    linked.symlink_to(outside / "secret" / "config.json")
    done = commands("compare", sweep)
    assert done.returncode == 0, done.stderr
    assert f"{linked.parent} is skipped: {linked} is a link that leaves {linked.parent}; replace it by" in done.stdout
    assert not [path for path in files if path.is_symlink()]
    shutil.rmtree(sweep / "comparison")
    (sweep / "comparison").symlink_to(outside)
    assert_refused(commands("compare", sweep), f"{sweep / 'comparison'} is a link that leaves {sweep};")
    done = commands("compare", sweep, f"--out={sweep / 'comparison' / 'new'}")  # Which the user has named.
    assert done.returncode == 0, done.stderr
    shutil.rmtree(outside / "new")


def test_measurements_are_not_added_through_links(tmp_path, outside):
    (tmp_path / "run" / "diagnosis").mkdir(parents=True)
    (tmp_path / "run" / "diagnosis" / "gradients.jsonl").symlink_to(outside / "secret" / "metrics.jsonl")
    with pytest.raises(UserError, match=r"gradients\.jsonl is a link"):
        diagnosis.add(tmp_path / "run", measurement("gradients", {}, 0))
    with pytest.raises(UserError, match=r"gradients\.jsonl is a link"):
        diagnosis.read(tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "diagnosis").symlink_to(outside / "secret")
    with pytest.raises(UserError, match="diagnosis is a link"):
        diagnosis.add(tmp_path / "other", measurement("gradients", {}, 0))


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("lock", "secret/config.json"),
        ("config.json", "secret/config.json"),
        ("summary.json", "secret/summary.json"),
        ("environment.json", "secret/environment.json"),
        ("metrics.jsonl", "secret/metrics.jsonl"),
        ("tensorboard", "secret"),
        ("checkpoints", "secret"),
        ("checkpoints/5", "secret"),
        ("checkpoints/5/state/_METADATA", "secret/config.json"),
    ],
)
def test_a_run_is_not_resumed_through_links(config, whole, tmp_path, outside, place, target):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    (run / "summary.json").unlink()
    there = run / place
    shutil.rmtree(there) if there.is_dir() else there.unlink(missing_ok=True)
    there.parent.mkdir(parents=True, exist_ok=True)
    there.symlink_to(outside / target)
    with pytest.raises(UserError, match=f"{there} is a link "):
        train(config, run, ["python"])


def test_a_run_directory_that_the_user_names_may_be_a_link(config, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "scratch" / "run")
    (tmp_path / "run").symlink_to(tmp_path / "scratch" / "run")
    assert train(config, tmp_path / "run", ["python"])["status"] == "finished"
