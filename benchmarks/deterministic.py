"""What `config.deterministic=True` costs on a GPU, and whether it is needed; on a CPU results are bit-equal anyway.

    python -m benchmarks.deterministic

Processes with and without the flag take turns training the same net for the same steps. Each prints the time of a step
and a digest of its final state; equal digests mean bit-equal states.
"""

import os
import statistics
import subprocess
import sys
import time

import jax
from absl import app, flags, logging

from benchmarks import measure
from configs import recipes
from resnet_jax.backend import DETERMINISTIC_FLAG
from resnet_jax.data import sampling
from resnet_jax.training.checkpoints import digest

_WORKER = flags.DEFINE_bool("worker", False, "Run as one of the processes: print seconds and digest.")

PROCESSES = 3
ROUNDS = 5


def train_and_print() -> None:
    """Print the seconds of a step and the digest of the state after some dispatches."""
    on_cpu = jax.default_backend() == "cpu"
    config = recipes.digits(20, True) if on_cpu else recipes.cifar(56, True)
    config.dtype = "float32" if on_cpu else "bfloat16"
    steps = 10 if on_cpu else 200
    subject = measure.subject(config)
    state, seconds = subject.state, []
    for first in range(0, steps * (ROUNDS + 1), steps):
        batch = range(first, first + steps)
        indices = sampling.batch_indices(0, batch, config.batch_size, len(subject.train.labels))
        start = time.perf_counter()
        state, metrics = subject.program.train_steps(state, subject.examples, indices)
        jax.block_until_ready(metrics)
        seconds.append((time.perf_counter() - start) / steps)
    print(statistics.median(seconds[1:]), digest(state, {}))  # The first compiles.


def main(_: list[str]) -> None:
    """Let processes of both kinds take turns, and record."""
    logging.set_verbosity(logging.WARNING)
    if _WORKER.value:
        train_and_print()
        return
    found: dict[str, list[list[str]]] = {"deterministic": [], "default": []}
    for _ in range(PROCESSES):
        for kind, results in found.items():
            given = os.environ.get("XLA_FLAGS", "")
            given = f"{given} {DETERMINISTIC_FLAG}" if kind == "deterministic" else given
            words = [sys.executable, "-m", "benchmarks.deterministic", "--worker"]
            said = subprocess.run(words, env=os.environ | {"XLA_FLAGS": given}, stdout=subprocess.PIPE, check=True)
            results.append(said.stdout.decode().split())
    ms = {kind: 1e3 * statistics.median(float(result[0]) for result in results) for kind, results in found.items()}
    measure.save(
        "deterministic",
        {
            "ms_a_step": {kind: round(value, 3) for kind, value in ms.items()},
            "deterministic_to_default": round(ms["deterministic"] / ms["default"], 3),
            "different_ends": {kind: len({result[1] for result in results}) for kind, results in found.items()},
            "processes": PROCESSES,
        },
    )


if __name__ == "__main__":
    app.run(main)
