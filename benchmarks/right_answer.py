"""Whether the accelerator computes what the CPU computes: one training step on each, from the same state.

    python -m benchmarks.right_answer

Run this first on each new kind of device. How far two correct steps may differ depends on the net: 20 layers without
shortcuts amplify the rounding of float32 to a hundredth of the step. So the CPU also takes the step from parameters
perturbed by what rounding does to a sum of products, and the device may be off by at most ``MARGIN`` times what that
changes.
Exit status 1 if it is off by more.
"""

import dataclasses
import sys
from typing import Any

import jax
import numpy as np

from benchmarks import measure
from configs import recipes
from resnet_jax import data
from resnet_jax.training import feed, parallel
from resnet_jax.training.program import make_program

DEPTH, BATCH_SIZE = 20, 64
# The products of the longest sum of the net, of nine taps and 64 channels. Added in another order, it is off by about
# the square root of their number times the unit roundoff.
LONGEST_SUM = 9 * 64
# Dtype, precision of products, and the relative perturbation: the rounding of a sum or, where it is larger, of its
# factors: 11 bits on GPUs (TF32), 8 on TPUs (bfloat16).
CASES = [("float32", "highest", LONGEST_SUM**0.5 * 2**-24), ("float32", None, 2**-9), ("bfloat16", None, 2**-9)]
MARGIN = 4  # A device rounds in every layer, both ways; the perturbation is only of the parameters.
UNRELATED = 1.0  # Two steps that have nothing to do with each other are off by about 1.4.


def step_of(device: jax.Device, residual: bool, dtype: str, perturbation: float = 0.0) -> dict[str, Any]:
    """Return loss and change of all parameters in one step of a net of ``DEPTH`` layers on ``device``.

    ``perturbation`` is the relative standard deviation of noise on the parameters before the step.
    """
    mesh = parallel.device_mesh([device])
    config = recipes.cifar(DEPTH, residual)
    config.batch_size, config.dtype = BATCH_SIZE, dtype
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (BATCH_SIZE, 32, 32, 3), dtype=np.uint8)
    splits = {"train": data.Split(images, random.integers(0, 10, BATCH_SIZE).astype(np.int32))}
    program = make_program(config, 10, mesh)
    dataset = data.Dataset(tuple("0123456789"), splits)
    examples, _ = feed.place(dataset, data.normalisation(dataset, config.data), config.seed, mesh)
    before = program.init((32, 32, 3))
    start = jax.tree.map(
        lambda leaf: (leaf * (1 + perturbation * random.standard_normal(leaf.shape))).astype(leaf.dtype),
        jax.device_get(before.params),
    )
    before = dataclasses.replace(before, params=parallel.replicate(start, mesh))
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
        for dtype, precision, perturbation in CASES:
            perturbed = step_of(cpu, residual, "float32", perturbation)
            allowed = min(MARGIN * difference(perturbed, reference), UNRELATED)
            with jax.default_matmul_precision(precision):
                step = step_of(device, residual, dtype)
            off = difference(step, reference)
            results.append(
                {
                    "net": f"{'residual' if residual else 'plain'}-{DEPTH}",
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
