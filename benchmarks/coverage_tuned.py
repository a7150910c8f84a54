"""How often the verdict's 95 % interval contains the true gap where each net has its own best learning rate.

    python -m benchmarks.coverage_tuned

1,000 simulated sweeps of two nets, three rates and three seeds. The rate is chosen by validation error, whose scatter
over seeds is partly that of the training error; the true gap is that between the best rates. Thirty seconds.
"""

import numpy as np

from benchmarks import measure
from resnet_jax.analysis.gap import gap
from resnet_jax.analysis.tuning import Candidate, decide
from resnet_jax.sweeps.claims import DEGRADES

SWEEPS = 1000
SEEDS = 3
RATES = (0.01, 0.03, 0.1)
COMMON = 0.03
GAP = 0.03
DEVIATION = 0.01
# Of validation errors: the share of the training error's scatter, and that of 5,000 examples at 10 %.
SHARED, SAMPLING = 0.7, 0.004
# How much higher the mean error is at each rate than at the best, and how likely a run diverges.
CASES = {
    "one rate is best by three standard deviations": ((0.03, 0.0, 0.03), (0.0, 0.0, 0.0)),
    "rates are a standard deviation apart": ((0.01, 0.0, 0.01), (0.0, 0.0, 0.0)),
    "all rates are equal": ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    "half of the runs at the best rate diverge": ((0.03, 0.01, 0.0), (0.0, 0.0, 0.5)),
}


def chosen_errors(random: np.random.Generator, best: float, case: str) -> tuple[np.ndarray, float]:
    """Return the training errors of a net at the rate that it chooses, ``[seeds]``, and their true mean."""
    more, divergence = (np.array(part) for part in CASES[case])
    training = random.normal((best + more)[:, None], DEVIATION, (len(RATES), SEEDS))
    scatter = training - (best + more)[:, None]
    own = DEVIATION * np.sqrt(1 - SHARED**2)
    validation = 0.02 + (best + more)[:, None] + SHARED * scatter
    validation += random.normal(0, own, training.shape) + random.normal(0, SAMPLING, training.shape)
    finished = random.random(training.shape) >= divergence[:, None]
    candidates = [
        Candidate(rate, [], SEEDS - int(done.sum()), errors[done].tolist(), float(np.mean([*errors[done], 1.0])))
        for rate, done, errors in zip(RATES, finished, validation, strict=True)
    ]
    chosen = decide("", candidates, COMMON).chosen
    assert chosen is not None
    place = RATES.index(chosen.value)
    return training[place][finished[place]], best + more[place]


def main() -> None:
    """Simulate and record."""
    results = {}
    for case in CASES:
        random = np.random.default_rng(0)
        held = held_of_chosen = said = 0
        for _ in range(SWEEPS):
            deep, deep_mean = chosen_errors(random, 0.1 + GAP, case)
            shallow, shallow_mean = chosen_errors(random, 0.1, case)
            low, high = gap(deep, shallow).interval or (np.nan, np.nan)
            held += low <= GAP <= high
            held_of_chosen += low <= deep_mean - shallow_mean <= high
            said += gap(chosen_errors(random, 0.1, case)[0], shallow).word == DEGRADES
        results[case] = {
            "interval contains the gap of the best rates (%)": round(100 * held / SWEEPS, 1),
            "interval contains the gap of the chosen rates (%)": round(100 * held_of_chosen / SWEEPS, 1),
            "false verdicts of degradation (%)": round(100 * said / SWEEPS, 1),
        }
    measure.save("coverage_tuned", results)


if __name__ == "__main__":
    main()
