"""How often the verdict's 95 % interval holds the true gap, and how often its words are wrong, in simulated sweeps.

    python -m benchmarks.coverage

4,000 sweeps of two nets for each law of the errors, number of seeds and scatter of the deeper net. "Degrades" is wrong
where the true gap is 0, "does not degrade" where it is 1 point. Five minutes on one core.
"""

from collections.abc import Callable

import numpy as np

from benchmarks import measure
from resnet_jax.analysis.gap import LEAST_SEEDS, MARGIN, gap
from resnet_jax.sweeps.claims import DEGRADES, DOES_NOT_DEGRADE

SWEEPS = 4_000
SEEDS = (LEAST_SEEDS, 4, 5, 10)
TIMES = (1, 3, 10)
# Mean error of the shallower net, and the scale of its scatter.
ERROR, SCATTER = 0.1, 0.002
# A run that fails ends so many scales higher.
FAILS, FAILURE = 0.15, 10


def failing(random: np.random.Generator, size: int) -> np.ndarray:
    """Return normal values, 15 % of them too high by a failure."""
    return random.standard_normal(size) + FAILURE * (random.random(size) < FAILS)


# Errors of seeds about their mean, in units of the scale.
LAWS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda random, size: random.standard_normal(size),
    "t with 3 degrees": lambda random, size: random.standard_t(3, size),
    "lognormal": lambda random, size: random.lognormal(0, 1, size) - np.exp(0.5),
    "15 % of runs fail": lambda random, size: failing(random, size) - FAILS * FAILURE,
}


def rates(law: str, times: float, seeds: int, sweeps: int) -> dict[str, float]:
    """Return how often the interval holds the true gap and the words are wrong, in per cent of ``sweeps``."""
    random = np.random.default_rng(0)
    draw, held, degrades, does_not = LAWS[law], 0, 0, 0
    for _ in range(sweeps):
        deep = ERROR + times * SCATTER * draw(random, seeds)
        shallow = ERROR + SCATTER * draw(random, seeds)
        equal = gap(deep, shallow)
        assert equal.interval is not None
        held += equal.interval[0] <= 0 <= equal.interval[1]
        degrades += equal.word == DEGRADES
        does_not += gap(deep + MARGIN, shallow).word == DOES_NOT_DEGRADE
    counts = {"interval holds the gap": held, "false degrades": degrades, "false does not degrade": does_not}
    return {name: round(100 * count / sweeps, 1) for name, count in counts.items()}


def main() -> None:
    """Simulate and record."""
    measure.save(
        "coverage",
        {
            law: {
                f"{seeds} seeds, scatter {times} : 1": rates(law, times, seeds, SWEEPS)
                for seeds in SEEDS
                for times in TIMES
            }
            for law in LAWS
        },
    )


if __name__ == "__main__":
    main()
