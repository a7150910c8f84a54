"""What stochastic depth saves: a training step of residual-110 with and without it.

    python -m benchmarks.stochastic_depth

Both begin from the same values and take turns in one process, on the digits with batch 128, survival probabilities
falling linearly to 0.5. Huang et al. 2016 (arXiv 1603.09382) save about 25 % of the time: of 54 blocks 40.25 are
computed on average.
"""

import time
from collections.abc import Callable

import jax

from benchmarks import measure
from configs import recipes
from resnet_jax.data import sampling

DEPTH = 110
STEPS = 4
ROUNDS = 25


def steps_of(survival: float) -> Callable[[], None]:
    """Return what makes the next steps, each with draws of its own."""
    config = recipes.digits(DEPTH, residual=True, survival=survival)
    subject = measure.subject(config)
    state = subject.state
    total = (ROUNDS + 2) * STEPS
    batches = iter(sampling.batch_indices(0, range(total), config.batch_size, len(subject.train.labels)))

    def turn() -> None:
        nonlocal state
        for _ in range(STEPS):
            state, metrics = subject.program.train_steps(state, subject.examples, next(batches)[None])
        jax.block_until_ready(metrics)

    return turn


def main() -> None:
    """Measure and record."""
    turns = {"constant depth": steps_of(1.0), "stochastic depth": steps_of(0.5)}
    first = {}
    for name, turn in turns.items():
        start = time.perf_counter()
        turn()
        first[name] = round(time.perf_counter() - start, 1)
    seconds = measure.in_turn(turns, ROUNDS)
    results = {
        "net": f"residual-{DEPTH}, 8x8x1",
        "batch": 128,
        f"first {STEPS} steps, compiling included (s)": first,
        "ms a step": {name: round(1e3 * value / STEPS, 2) for name, value in seconds.items()},
        "stochastic to constant": round(seconds["stochastic depth"] / seconds["constant depth"], 3),
    }
    measure.save("stochastic_depth", results)


if __name__ == "__main__":
    main()
