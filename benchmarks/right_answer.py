"""Whether the accelerator computes what the CPU computes: one training step on each, from the same state.

    python -m benchmarks.right_answer

Run this first on each new kind of device. In float32 with full-precision products every parameter must agree up to
rounding; in the device's default precision, or in bfloat16, as closely as that precision allows. Exit status 1 if it
does not.
"""

import sys
from typing import Any

import jax
import numpy as np

from benchmarks import measure
from configs import recipes
from resnet_jax import data
from resnet_jax.training import feed, parallel
from resnet_jax.training.program import make_program

BATCH_SIZE = 64
# Dtype, precision of products, and largest relative error of the step.
CASES = [("float32", "highest", 1e-4), ("float32", None, 3e-2), ("bfloat16", None, 2e-1)]


def step_of(device: jax.Device, residual: bool, dtype: str) -> dict[str, Any]:
    """Return loss and change of all parameters in one step of a 20-layer net on ``device``."""
    mesh = parallel.device_mesh([device])
    config = recipes.cifar(20, residual)
    config.batch_size, config.dtype = BATCH_SIZE, dtype
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (BATCH_SIZE, 32, 32, 3), dtype=np.uint8)
    splits = {"train": data.Split(images, random.integers(0, 10, BATCH_SIZE).astype(np.int32))}
    program = make_program(config, 10, mesh)
    examples, _ = feed.place(data.Dataset(10, splits), config, mesh)
    before = program.init((32, 32, 3))
    start = jax.device_get(before.params)
    after, metrics = program.train_steps(before, examples, np.arange(BATCH_SIZE, dtype=np.int32)[None])
    change = jax.tree.map(np.subtract, jax.device_get(after.params), start)
    return {
        "loss": float(metrics["loss"][0]),
        "change": np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(change)]),
    }


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the distance between the changes of two steps, relative to their length."""
    return float(np.linalg.norm(one["change"] - other["change"]) / np.linalg.norm(other["change"]))


def main() -> int:
    """Compare the default device with the CPU; return the exit status."""
    device, cpu = jax.devices()[0], jax.local_devices(backend="cpu")[0]
    if device == cpu:
        print("The default device is the CPU; there is nothing to compare it with.")
        return 0
    results = []
    for residual in (False, True):
        reference = step_of(cpu, residual, "float32")
        for dtype, precision, allowed in CASES:
            with jax.default_matmul_precision(precision):
                step = step_of(device, residual, dtype)
            off = difference(step, reference)
            results.append(
                {
                    "net": f"{'residual' if residual else 'plain'}-20",
                    "dtype": dtype,
                    "precision of products": precision or "default",
                    "loss": step["loss"],
                    "loss on the CPU": reference["loss"],
                    "step off by": off,
                    "allowed": allowed,
                    "right": off <= allowed,
                }
            )
    measure.save("right_answer", results)
    return 0 if all(result["right"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
