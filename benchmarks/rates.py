"""How well `experiments.compare --rates` finds known rates, by simulation.

    python -m benchmarks.rates

Growth: sweeps of eight depths and three seeds, whose steps to a threshold grow with depth by a known law, with scatter
over seeds; runs are censored beyond a number of steps. Decay: losses that fall by a known law, with noise that is alike
in successive windows, or do not fall. Two minutes.
"""

from typing import NamedTuple

import numpy as np

from benchmarks import measure
from resnet_jax.analysis import censored
from resnet_jax.analysis.decay import LEAST_EVIDENCE, decay, fit_curve
from resnet_jax.analysis.rates import Growth, Reach, growth

SWEEPS, BOOTSTRAPPED, RESAMPLES = 200, 40, 99
SEEDS = 3
DEPTHS = np.array([8, 14, 20, 26, 32, 38, 44, 56])
KAPPA, EXPONENT = 0.05, 1.5
EQUAL, GROWING = np.full(len(DEPTHS), 0.15), np.linspace(0.05, 0.3, len(DEPTHS))
CURVES = 100
TAU, POWER = 0.2, 0.8
TIMES = (np.arange(80) + 0.5) / 80
NOISE, CORRELATION = 0.03, 0.5


class Case(NamedTuple):
    """Sweeps to simulate.

    Attributes:
      law: of growth, one of "exponential", "power law" and "none".
      slope: of the logarithm of the steps, over depth or, for the power law, over its logarithm.
      scatter: standard deviation over seeds of that logarithm, ``[depths]``.
      deepest: net that still reaches the threshold, without scatter; deeper ones are censored.
    """

    law: str
    slope: float
    scatter: np.ndarray
    deepest: int

    @property
    def middle(self) -> np.ndarray:
        """The logarithm of the steps without scatter, ``[depths]``."""
        return 5 + self.slope * (np.log(DEPTHS) if self.law == "power law" else DEPTHS)

    def sweep(self, random: np.random.Generator) -> list[Reach]:
        """Return the runs of a simulated sweep."""
        steps = np.exp(self.middle[:, None] + random.normal(0, self.scatter[:, None], (len(DEPTHS), SEEDS)))
        is_censored = self.deepest < DEPTHS.max()
        limit = np.exp(self.middle[self.deepest >= DEPTHS].max() + 0.05) if is_censored else np.inf
        return [
            Reach("", depth, min(value, limit), censored.ABOVE if value > limit else censored.EXACT, False, False)
            for depth, row in zip(DEPTHS.tolist(), steps.tolist(), strict=True)
            for value in row
        ]


CASES = {
    "exponential": Case("exponential", KAPPA, EQUAL, 56),
    "exponential, half of the depths censored": Case("exponential", KAPPA, EQUAL, 26),
    "exponential, scatter growing with depth": Case("exponential", KAPPA, GROWING, 56),
    "exponential, scatter growing with depth, half of the depths censored": Case("exponential", KAPPA, GROWING, 26),
    "power law": Case("power law", EXPONENT, EQUAL, 56),
    "power law, half of the depths censored": Case("power law", EXPONENT, EQUAL, 26),
    "no growth": Case("none", 0.0, EQUAL, 56),
}


def arrays(reaches: list[Reach]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return depths, logarithms of the steps and sides of ``reaches``."""
    depths, steps, sides = zip(*((each.depth, each.steps, each.side) for each in reaches), strict=True)
    return np.array(depths, float), np.log(steps), np.array(sides)


def bootstrap_contains(case: Case) -> float:
    """Return how often a percentile bootstrap over the seeds of each depth contains the slope, in per cent."""
    random = np.random.default_rng(0)
    held = 0
    for _ in range(BOOTSTRAPPED):
        x, y, sides = arrays(case.sweep(random))
        slopes = []
        for _ in range(RESAMPLES):
            drawn = (np.arange(0, len(x), SEEDS)[:, None] + random.integers(0, SEEDS, (len(DEPTHS), SEEDS))).ravel()
            slopes.append(censored.fit(x[drawn], y[drawn], sides[drawn]).slope)
        low, high = np.quantile(slopes, [0.025, 0.975])
        held += low <= case.slope <= high
    return 100 * held / BOOTSTRAPPED


def naive_slope(growth: Growth) -> float:
    """Return kappa by least squares without the censored runs."""
    x, y, sides = arrays(growth.reaches)
    exact = sides == censored.EXACT
    return float(np.polyfit(x[exact], y[exact], 1)[0])


def growth_results(case: Case) -> dict[str, float | None]:
    """Return how often the interval and the choice of the law are right in sweeps of ``case``."""
    random = np.random.default_rng(0)
    name = "power law" if case.law == "power law" else "exponential"
    found = [growth("", 0.5, case.sweep(random)) for _ in range(SWEEPS)]
    lows, highs = np.array([each.laws[name].interval for each in found]).T
    advantages = np.array([each.advantage for each in found]) * (1 if name == "exponential" else -1)
    is_law = case.law != "none"
    return {
        "interval contains the slope (%)": 100 * float(np.mean((lows <= case.slope) & (case.slope <= highs))),
        "bootstrap over seeds contains it (%)": bootstrap_contains(case) if name == "exponential" else None,
        "slope": case.slope,
        "mean of its estimates": round(float(np.mean([each.laws[name].slope for each in found])), 4),
        "mean without the censored runs": round(float(np.mean([naive_slope(each) for each in found])), 4)
        if name == "exponential"
        else None,
        "right law said (%)": 100 * float(np.mean(advantages >= LEAST_EVIDENCE)) if is_law else None,
        "wrong law said (%)": 100 * float(np.mean(advantages <= -LEAST_EVIDENCE)) if is_law else None,
    }


def noisy(curve: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return ``curve`` with noise of its logarithm, each value of which shares ``CORRELATION`` with the one before."""
    noise = random.normal(0, NOISE, len(curve))
    for index in range(1, len(noise)):
        noise[index] = CORRELATION * noise[index - 1] + np.sqrt(1 - CORRELATION**2) * noise[index]
    return curve * np.exp(noise)


def decay_results(law: str, seeds: int) -> dict[str, float]:
    """Return how often law and interval are right for losses of so many ``seeds`` that fall by ``law``."""
    random = np.random.default_rng(0)
    exponential = law == "exponential"
    curve = 0.1 + 2 * np.exp(-TIMES / TAU) if exponential else 0.02 + 2 * (1 + TIMES / 0.05) ** -POWER
    found = [decay("", [(TIMES, noisy(curve, random), 1.0) for _ in range(seeds)]) for _ in range(CURVES)]
    intervals = [each.interval for each in found if each.law == law and each.interval]
    held = sum(low <= (TAU if exponential else POWER) <= high for low, high in intervals)
    return {
        "right law said (%)": round(100 * len(intervals) / CURVES, 1),
        "its interval contains the rate (%)": round(100 * held / max(len(intervals), 1), 1),
    }


def main() -> None:
    """Simulate and record."""
    random = np.random.default_rng(0)
    flat = [fit_curve(TIMES, noisy(np.full(len(TIMES), 2.3), random)).problem for _ in range(2 * CURVES)]
    results = {
        "growth": {name: growth_results(case) for name, case in CASES.items()},
        "decay": {
            f"{law}, {seeds} seed{'s' * (seeds > 1)}": decay_results(law, seeds)
            for law in ("exponential", "power law")
            for seeds in (1, SEEDS)
        },
        "plateau": {"no rate is said (%)": round(100 * float(np.mean([bool(each) for each in flat])), 1)},
    }
    measure.save("rates", results)


if __name__ == "__main__":
    main()
