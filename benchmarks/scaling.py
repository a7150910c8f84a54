"""Throughput over 1, 2, 4, 8 ... devices, and the bytes they exchange per step.

    python -m benchmarks.scaling

Weak scaling keeps 128 images on each device, strong scaling 128 (rounded up to a multiple of the devices) on all of
them together. Virtual CPU devices share the cores, so nothing is timed on a CPU; the exchange is read from the compiled
program in any case.
"""

import math
from typing import Any

import jax
import numpy as np

from benchmarks import measure
from benchmarks.programs.compiled import CompiledProgram, collectives
from configs import recipes
from resnet_jax.data import sampling
from resnet_jax.training import parallel

jax.config.update("jax_num_cpu_devices", 8)
ON_CPU = jax.default_backend() == "cpu"
BATCH_SIZE = 128
STEPS = 200
ROUNDS = 5


def exchange(depth: int) -> dict[str, Any]:
    """Return the bytes that devices exchange per step of a CIFAR net, and the bytes of its parameters."""
    config = recipes.cifar(depth, True)
    config.batch_size = 2 * jax.device_count()
    subject = measure.subject(config)
    indices = np.zeros((1, config.batch_size), np.int32)
    compiled = subject.program.train_steps.lower(subject.state, subject.examples, indices).compile()
    numbers = sum(leaf.size for leaf in jax.tree.leaves((subject.state.params, subject.state.batch_stats)))
    return {
        "net": f"residual-{depth}",
        "devices": jax.device_count(),
        "bytes all-reduced a step": round(collectives(CompiledProgram(compiled.as_text()))["all-reduce"].bytes),
        "bytes of parameters and statistics": 4 * numbers,
    }


def throughput(devices: int, batch_size: int) -> float:
    """Return images a second of ResNet-56 in bfloat16."""
    config = recipes.cifar(56, True)
    config.dtype, config.batch_size = "bfloat16", batch_size
    program, state, examples, train = measure.subject(config, parallel.device_mesh(jax.devices()[:devices]))
    batches = sampling.batch_indices(0, range(STEPS), batch_size, len(train.labels))

    def turn() -> None:
        nonlocal state
        state, metrics = program.train_steps(state, examples, batches)
        jax.block_until_ready(metrics)

    return STEPS * batch_size / measure.in_turn({"ours": turn}, ROUNDS)["ours"]


def main() -> None:
    """Read the exchange, and measure throughput if the devices are real."""
    results: dict[str, Any] = {"exchange": [exchange(depth) for depth in (20, 56, 110)]}
    if not ON_CPU:
        counts = [2**power for power in range(jax.device_count().bit_length())]
        results["images a second"] = [
            {
                "devices": count,
                "weak": round(throughput(count, BATCH_SIZE * count)),
                "strong": round(throughput(count, math.ceil(BATCH_SIZE / count) * count)),
            }
            for count in counts
        ]
    measure.save("scaling", results)


if __name__ == "__main__":
    main()
