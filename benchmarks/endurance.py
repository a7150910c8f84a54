"""Do memory, time per record and checkpoint overhead stay constant over a run of 64,000 steps?

    python -m benchmarks.endurance              # residual-8 on the digits, into benchmarks/records/endurance-*.json
    python -m benchmarks.endurance --steps=6400

It runs ``resnet_jax.training.train`` with the recipe's intervals. Measured are the memory of the process, the time of a
record early and late, and the time that the loop waits for checkpoints: for their start, as the rest is written in the
background, and for the end of the last one.
"""

import pathlib
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
from absl import app, flags, logging

from benchmarks import measure
from configs import recipes
from resnet_jax.backend import keep_freed_memory
from resnet_jax.training import train
from resnet_jax.training.checkpoints import Checkpoints
from resnet_jax.training.record import RunRecord

_STEPS = flags.DEFINE_integer("steps", 64_000, "Number of steps of the run.", lower_bound=1000)

BATCH_SIZE = 16
SECONDS_BETWEEN_SAMPLES = 0.5


def timed(owner: type, name: str) -> list[float]:
    """Make method ``name`` of ``owner`` record the seconds of each call, and return the list of them."""
    seconds: list[float] = []
    method: Callable[..., Any] = getattr(owner, name)

    def noting(*words: Any, **settings: Any) -> Any:
        start = time.perf_counter()
        try:
            return method(*words, **settings)
        finally:
            seconds.append(time.perf_counter() - start)

    setattr(owner, name, noting)
    return seconds


def sample_memory(ended: threading.Event) -> tuple[threading.Thread, list[int]]:
    """Start recording the resident bytes of this process until ``ended``; return the thread and the list."""
    samples: list[int] = []
    process = psutil.Process()

    def sample() -> None:
        while not ended.wait(SECONDS_BETWEEN_SAMPLES):
            samples.append(process.memory_info().rss)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    return thread, samples


def endure(folder: pathlib.Path, steps: int) -> dict[str, Any]:
    """Train for ``steps`` steps in ``folder`` and return the measurements."""
    config = recipes.digits(depth=8, residual=True)
    config.batch_size = BATCH_SIZE
    config.steps = steps
    config.log_every, config.eval_every, config.checkpoint_every = 100, 2_000, 2_000
    config.steps_per_dispatch = 100
    saves, waits = timed(Checkpoints, "save"), timed(Checkpoints, "__exit__")
    syncs, writes = timed(RunRecord, "sync"), timed(RunRecord, "write")
    ended = threading.Event()
    thread, memory = sample_memory(ended)
    summary = train(config, folder / "run")
    ended.set()
    thread.join()
    tenth, writes_tenth = len(memory) // 10, len(writes) // 10
    tenths = [memory[first : first + tenth] for first in range(0, 10 * tenth, tenth)]
    stall = sum(saves) + sum(syncs) + sum(waits)
    return {
        "status": summary["status"],
        "steps": steps,
        "seconds": summary["seconds"],
        "memory_mib_in_each_tenth": [round(statistics.median(samples) / 2**20, 1) for samples in tenths],
        "record_ms": {
            "first_tenth": round(1e3 * statistics.median(writes[:writes_tenth]), 3),
            "last_tenth": round(1e3 * statistics.median(writes[-writes_tenth:]), 3),
        },
        "checkpoints": len(saves),
        "checkpoint_ms": round(1e3 * statistics.median(saves), 1),
        "checkpoint_share": round(stall / summary["seconds"], 5),
    }


def main(_: list[str]) -> None:
    """Measure and record."""
    logging.set_verbosity(logging.WARNING)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        measure.save("endurance", endure(pathlib.Path(folder), _STEPS.value))


if __name__ == "__main__":
    app.run(main)
