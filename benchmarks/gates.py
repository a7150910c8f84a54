"""Cost of gates: a training step of residual-56 with gates as arguments, compared with the static net.

    python -m benchmarks.gates

Both begin from the same values and take turns in one process, on the digits with batch 128. All gates are those of the
residual net, so both compute the same losses and gradients; the update may round differently, because the compiler
contracts products and sums of another program in another way.
"""

import time

import jax
import numpy as np

from benchmarks import measure
from configs import recipes
from resnet_jax import models
from resnet_jax.data import sampling
from resnet_jax.models.gates import RESIDUAL
from resnet_jax.training import parallel
from resnet_jax.training.interventions import GateSchedule

DEPTH = 56
STEPS = 2
ROUNDS = 30


def main() -> None:
    """Measure and record."""
    config = recipes.digits(DEPTH, residual=True)
    subject = measure.subject(config)
    image_shape = subject.train.images.shape[1:]
    gates = models.gate_blocks(subject.program.model, image_shape, RESIDUAL)
    schedule = GateSchedule(gates, gates, np.float32(0), np.float32(config.steps))
    gates = parallel.replicate(schedule, subject.program.mesh)
    inputs = {"static": subject.examples, "gated": subject.examples._replace(gates=gates)}
    states = {name: subject.program.init(image_shape) for name in inputs}
    batches = sampling.batch_indices(0, range(STEPS), config.batch_size, len(subject.train.labels))
    losses: dict[str, list[float]] = {name: [] for name in inputs}
    first = {}

    def turn(name: str) -> None:
        for batch in batches:
            states[name], metrics = subject.program.train_steps(states[name], inputs[name], batch[None])
            losses[name].append(float(metrics["loss"][0]))

    for name in inputs:
        start = time.perf_counter()
        turn(name)
        first[name] = round(time.perf_counter() - start, 1)
    seconds = measure.in_turn({name: lambda name=name: turn(name) for name in inputs}, ROUNDS)
    static, gated = (np.array(each) for each in losses.values())
    assert static[0] == gated[0]
    results = {
        "net": f"residual-{DEPTH}, {'x'.join(map(str, image_shape))}",
        "batch": config.batch_size,
        "first two steps, compiling included (s)": first,
        "ms a step": {name: round(1e3 * value / STEPS, 2) for name, value in seconds.items()},
        "gated to static": round(seconds["gated"] / seconds["static"], 3),
        "relative difference of the loss after one update": float(abs(gated[1] / static[1] - 1)),
    }
    jax.block_until_ready(states)
    measure.save("gates", results)


if __name__ == "__main__":
    main()
