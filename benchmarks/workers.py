"""Runs of a sweep on the cores of a CPU: several at a time with a core each, or fewer with more cores each.

    python -m benchmarks.workers

Each way trains one net in as many processes as it has runs at a time, each bound to its share of the cores as
``experiments.sweep`` binds its workers, and counts the steps of all within the same time.
"""

import json
import os
import subprocess
import sys
import time
from typing import Any

import jax

from benchmarks import measure
from configs import recipes
from resnet_jax.data import sampling
from resnet_jax.models.layers import onednn
from resnet_jax.sweeps.local import available_cores
from resnet_jax.training import convolutions

SECONDS = 15
ROUNDS = 3
NETS = {
    "residual-20, digits": lambda: recipes.digits(20, True),
    "residual-56, digits": lambda: recipes.digits(56, True),
    "residual-20, cifar10": lambda: recipes.cifar(20, True),
}


def work(name: str) -> None:
    """Say "ready" after the first steps; for each line of standard input train for ``SECONDS``, and print the steps."""
    config = NETS[name]()
    subject = measure.subject(config)
    state = subject.state
    form = convolutions.form_of_new_run(config, subject.train.images.shape[1:], "cpu")
    batches = sampling.batch_indices(0, range(1000), config.batch_size, len(subject.train.labels))

    def take(seconds: float) -> float:
        nonlocal state
        start, steps = time.perf_counter(), 0
        while steps < 2 or time.perf_counter() - start < seconds:
            with onednn.computed_by(form):
                state, metrics = subject.program.train_steps(state, subject.examples, batches[steps % 1000][None])
            jax.block_until_ready(metrics)
            steps += 1
        return steps / (time.perf_counter() - start)

    take(0)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(take(SECONDS), flush=True)


def steps_a_second(name: str, runs: int, cores: list[int]) -> list[float]:
    """Return steps a second of ``runs`` processes together, which share ``cores``, in each of ``ROUNDS`` turns."""
    workers = []
    for index in range(runs):
        command = [sys.executable, "-m", "benchmarks.workers", name]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        os.sched_setaffinity(worker.pid, cores[index::runs])
        workers.append(worker)
    found = []
    for turn in range(ROUNDS + 1):
        lines = [worker.stdout.readline() for worker in workers if worker.stdout is not None]
        if turn:
            found.append(sum(map(float, lines)))
        if turn < ROUNDS:
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("\n")
                worker.stdin.flush()
    for worker in workers:
        worker.communicate()
    return found


def main() -> None:
    """Measure each net with one run on all cores, and with more runs on fewer each, down to one core."""
    if len(sys.argv) == 2:
        work(sys.argv[1])
        return
    cores = available_cores()
    nets: list[dict[str, Any]] = []
    for name in NETS:
        rates = {}
        runs = 1
        while runs <= len(cores):
            rates[str(runs)] = round(sorted(steps_a_second(name, runs, cores))[ROUNDS // 2], 2)
            runs *= 2
        nets.append({"net": name, "steps a second, by runs at a time": rates})
        print(json.dumps(nets[-1]))
    measure.save("workers", {"cores": len(cores), "nets": nets})


if __name__ == "__main__":
    main()
