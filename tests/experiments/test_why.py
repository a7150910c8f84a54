"""The command that says why, on made-up measurements."""

from tests.analysis.measured import measure
from tests.analysis.synthetic import write_run


def test_the_page_of_runs_and_of_weights(commands, tmp_path):
    run = tmp_path / "runs" / "plain-20"
    write_run(run, 20, False, 0.5)
    measure(run, False, 20, 0, 10)
    measure(tmp_path / "weights" / "residual-20", True, 20, 0, 2)
    out = tmp_path / "out"
    done = commands("why", tmp_path / "runs", tmp_path / "weights", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert "Whether gradients vanish or explode: 1 seed, three are needed" in done.stdout
    assert "residual-20" in (out / "why.md").read_text()
    assert (out / "why_gradients.png").exists()
    assert (out / "why.html").exists()


def test_what_has_not_been_measured_is_said(commands, tmp_path):
    write_run(tmp_path / "plain-20", 20, False, 0.5)
    done = commands("why", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: nothing has been measured in {tmp_path}; run experiments.diagnose on it")
    done = commands("why", tmp_path / "missing")
    assert done.returncode == 2
    assert "is not a folder" in done.stderr
    assert "no folder given" in commands("why").stderr
