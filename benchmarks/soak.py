"""Kill a run again and again, resume it each time, and compare its end with an undisturbed run.

    python -m benchmarks.soak               # 60 kills, into benchmarks/records/soak-*.json
    python -m benchmarks.soak --kills=500

Each run is ``python -m experiments.main`` on the digits, killed by SIGKILL and started again with the same command, at
seeded random moments. All parameters, statistics and optimiser states, and metrics.jsonl except its times, must be
bit-equal; exit status 1 if any is not.
"""

import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging

from benchmarks import measure
from configs import recipes
from resnet_jax.rundir import read_metrics
from resnet_jax.safe_files import read_json
from resnet_jax.training.checkpoints import Checkpoints
from resnet_jax.training.program import make_program

_KILLS = flags.DEFINE_integer("kills", 60, "Number of kills over all runs.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the moments.")

SETTINGS = {
    "model.depth": 8,
    "batch_size": 32,
    "data.padding": 1,
    "steps": 240,
    "log_every": 2,
    "eval_every": 20,
    "checkpoint_every": 6,
}
# Moments after which a run is killed, and the longest delay in seconds: any time, the start of a checkpoint, a new line
# of metrics, the last line.
MOMENTS = {"time": 15.0, "checkpoint": 0.05, "metrics": 0.01, "end": 1.5}
KILLS_OF_A_RUN = 12
SECONDS_BETWEEN_LOOKS = 0.002
TIMES = ("seconds", "images_per_second", "data_wait")


def start(workdir: pathlib.Path) -> subprocess.Popen[bytes]:
    """Start the command that trains, or resumes, the run in ``workdir``."""
    overrides = [f"--config.{name}={value}" for name, value in SETTINGS.items()]
    words = ["--config=configs/digits_resnet20.py", *overrides, f"--workdir={workdir}"]
    with workdir.with_suffix(".log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "experiments.main", *words], stdout=log, stderr=log)


def wait_for(moment: str, process: subprocess.Popen[bytes], workdir: pathlib.Path, chance: random.Random) -> None:
    """Return at ``moment`` of the run of ``process``, or when it has ended."""
    before, old = size(workdir), unfinished_checkpoints(workdir)
    come = {
        "time": lambda: True,
        "checkpoint": lambda: unfinished_checkpoints(workdir) - old,
        "metrics": lambda: size(workdir) > before,
        "end": lambda: f'"step": {SETTINGS["steps"]}, ' in metrics(workdir),
    }[moment]
    while process.poll() is None and not come():
        time.sleep(SECONDS_BETWEEN_LOOKS)
    time.sleep(chance.uniform(0, MOMENTS[moment]))


def unfinished_checkpoints(workdir: pathlib.Path) -> set[int]:
    """Return the checkpoints that are being written, or were when a run was killed, by their number in the disk."""
    try:
        return {path.stat().st_ino for path in workdir.glob("checkpoints/*tmp*")}
    except FileNotFoundError:  # It has been renamed meanwhile.
        return set()


def metrics(workdir: pathlib.Path) -> str:
    """Return the text of the records so far."""
    path = workdir / "metrics.jsonl"
    return path.read_text() if path.exists() else ""


def size(workdir: pathlib.Path) -> int:
    """Return the characters recorded so far."""
    return len(metrics(workdir))


def disturbed(workdir: pathlib.Path, kills: int, chance: random.Random) -> dict[str, int]:
    """Train the run in ``workdir`` to its end, killed up to ``kills`` times; return how often at which moment."""
    killed = dict.fromkeys(MOMENTS, 0)
    while sum(killed.values()) < kills:
        moment = "end" if sum(killed.values()) == kills - 1 else chance.choice(["time", "checkpoint", "metrics"])
        process = start(workdir)
        wait_for(moment, process, workdir, chance)
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:  # It finished first.
            break
        killed[moment] += 1
    if start(workdir).wait():
        raise RuntimeError(f"the run did not finish; see {workdir.with_suffix('.log')}")
    return killed


def result(workdir: pathlib.Path) -> tuple[Any, list[dict[str, Any]]]:
    """Return the last state of the run in ``workdir`` and its metrics without the times."""
    config = recipes.digits(depth=8, residual=True)
    config.update_from_flattened_dict(SETTINGS)
    program = make_program(config, 10)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        restored = checkpoints.restore(program.init((8, 8, 1)))
    assert restored is not None
    return jax.device_get(restored[0]), figures(workdir)


def figures(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Return the metrics of the run in ``workdir`` without the times."""
    lines = read_metrics(workdir / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def differences(one: pathlib.Path, other: pathlib.Path) -> int:
    """Return the number of arrays and metrics lines of two finished runs that differ in any bit."""
    (state, lines), (other_state, other_lines) = result(one), result(other)
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(other_state), strict=True)
    arrays = sum(not np.array_equal(a, b) for a, b in pairs)
    longest = max(len(lines), len(other_lines))
    padded = (found + [{}] * (longest - len(found)) for found in (lines, other_lines))
    return arrays + sum(a != b for a, b in zip(*padded, strict=True))


def soak(folder: pathlib.Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill runs in ``folder`` ``kills`` times in all, and return the counts and differences."""
    chance = random.Random(seed)
    whole = folder / "whole"
    if start(whole).wait():
        raise RuntimeError(f"the undisturbed run did not finish; see {whole.with_suffix('.log')}")
    killed, runs, found = dict.fromkeys(MOMENTS, 0), 0, 0
    while sum(killed.values()) < kills:
        workdir = folder / f"run{runs}"
        left = kills - sum(killed.values())
        for moment, count in disturbed(workdir, min(KILLS_OF_A_RUN, left), chance).items():
            killed[moment] += count
        summary = read_json(workdir / "summary.json")
        found += differences(whole, workdir) + (summary["status"] != "finished")
        runs += 1
        print(f"{sum(killed.values())} kills, {runs} runs resumed to their end, {found} differences", flush=True)
    arrays = len(jax.tree.leaves(result(whole)[0]))
    return {
        "kills": killed,
        "runs": runs,
        "arrays_compared": arrays * runs,
        "metrics_lines_compared": len(read_metrics(whole / "metrics.jsonl")) * runs,
        "differences": found,
    }


def main(_: list[str]) -> int:
    """Run and record; return the exit status."""
    logging.set_verbosity(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        record = soak(pathlib.Path(folder), _KILLS.value, _SEED.value)
    measure.save("soak", record)
    return 1 if record["differences"] else 0


if __name__ == "__main__":
    app.run(main)
