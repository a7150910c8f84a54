"""The demo, on nets small enough for a test."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

TINY_CONFIG = """
from configs import recipes

def get_config():
    config = recipes.digits(depth={depth}, residual={residual})
    config.batch_size = 16
    config.steps = {steps}
    config.optimizer.milestones = (2,)
    config.log_every = config.eval_every = 2
    return config
"""

DEMO = """
import sys
from experiments import command, demo
demo.CONFIGS = {configs!r}
sys.argv = ["demo", "--folder={folder}"]
command.run(demo.main)
"""


@pytest.fixture
def demo(tmp_path):
    """Return a function that runs the demo with depths 8 and 14 in place of 20 and 56."""

    def run(steps=4, act=lambda process: None):
        configs = {}
        for kind in ("plain", "residual"):
            for depth in (8, 14):
                file = tmp_path / f"{kind}{depth}.py"
                file.write_text(TINY_CONFIG.format(depth=depth, residual=kind == "residual", steps=steps))
                configs[f"{kind}-{depth}"] = str(file)
        program = DEMO.format(configs=configs, folder=tmp_path / "demo")
        with subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"COLUMNS": "200"},
        ) as process:
            act(process)
            stdout, stderr = process.communicate()
        return process.returncode, stdout, stderr

    return run


def test_the_demo_trains_four_nets_draws_them_and_prints_a_table(demo, tmp_path):
    status, stdout, stderr = demo()
    assert status == 0, stderr
    for net in ("plain-8", "plain-14", "residual-8", "residual-14"):
        summary = json.loads((tmp_path / "demo" / net / "summary.json").read_text())
        assert summary["status"] == "finished"
        row = next(line for line in stdout.splitlines() if f" {net} " in line)
        assert f"{summary['parameters']:,}" in row
        assert f"{summary['final']['train_clean']['error']:.2%}" in row
        assert f"{summary['final']['test']['error']:.2%}" in row
    assert (tmp_path / "demo" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path / "demo" / "curves.png") in stdout

    trained = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("summary.json")}
    status, again, _ = demo()
    assert status == 0
    assert again == stdout
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("summary.json")} == trained


def test_a_net_that_fails_does_not_stop_the_others_and_is_told(demo, tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "plain-14").write_text("in the way")
    status, _, stderr = demo()
    assert status == 1
    assert "plain-14 was not trained" in stderr
    assert "plain-14 is a file; give another --workdir." in stderr.replace("\n", "")
    assert len(list((tmp_path / "demo").glob("*/summary.json"))) == 3


def test_an_interrupted_demo_stops_its_trainings_and_says_how_to_go_on(demo, tmp_path):
    def interrupt(process):
        folder = tmp_path / "demo"
        while not any(file.stat().st_size for file in folder.glob("*/metrics.jsonl")):
            assert process.poll() is None
        process.send_signal(15)

    status, _, stderr = demo(steps=1_000_000, act=interrupt)
    assert status == 130
    assert "Interrupted; the same command continues from the last checkpoint." in stderr
    stopped = [json.loads(path.read_text())["status"] for path in (tmp_path / "demo").glob("*/summary.json")]
    assert stopped
    assert set(stopped) == {"preempted"}
