"""What stochastic depth saves: a training step of residual-110 with and without it.

    python -m benchmarks.stochastic_depth

Both begin from the same values and take turns in one process, on the digits with batch 128, survival probabilities
falling linearly to 0.5. Huang et al. 2016 (arXiv 1603.09382) save about 25 % of the time: of 54 blocks 40.25 are
computed on average.
"""

import time

import jax

from benchmarks import measure
from configs import recipes
from resnet_jax.data import sampling

DEPTH = 110
STEPS = 4
ROUNDS = 25


def main() -> None:
    """Measure and record."""
    survivals = {"constant depth": 1.0, "stochastic depth": 0.5}
    turns, first = {}, {}
    for name, survival in survivals.items():
        config = recipes.digits(DEPTH, residual=True, survival=survival)
        subject = measure.subject(config)
        image_shape = subject.examples.images.shape[1:]
        batches = iter(
            sampling.batch_indices(0, range((ROUNDS + 2) * STEPS), config.batch_size, len(subject.train.labels))
        )
        state = [subject.program.init(image_shape)]

        def turn(subject=subject, batches=batches, state=state) -> None:
            """Make the next steps: each has draws of its own."""
            for _ in range(STEPS):
                state[0], metrics = subject.program.train_steps(state[0], subject.examples, next(batches)[None])
                jax.block_until_ready(metrics)

        start = time.perf_counter()
        turn()
        first[name] = round(time.perf_counter() - start, 1)
        turns[name] = turn
    seconds = measure.in_turn(turns, ROUNDS)
    results = {
        "net": f"residual-{DEPTH}, {'x'.join(map(str, image_shape))}",
        "batch": config.batch_size,
        f"first {STEPS} steps, compiling included (s)": first,
        "ms a step": {name: round(1e3 * value / STEPS, 2) for name, value in seconds.items()},
        "stochastic to constant": round(seconds["stochastic depth"] / seconds["constant depth"], 3),
    }
    measure.save("stochastic_depth", results)


if __name__ == "__main__":
    main()
