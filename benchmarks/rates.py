"""How well `experiments.compare --rates` finds known rates, by simulation.

    python -m benchmarks.rates

Growth: sweeps of nine depths and three seeds, whose steps to a threshold grow with depth by a known law, with an effect
of each depth and scatter over seeds; runs are censored beyond a number of steps. Decay: losses that fall by a known
law, with noise that is alike in successive windows, or do not fall. Seven minutes.
"""

from typing import NamedTuple

import numpy as np

from benchmarks import measure
from resnet_jax.analysis.censored import ABOVE, EXACT
from resnet_jax.analysis.decay import LEAST_EVIDENCE, decay, fit_curve
from resnet_jax.analysis.rates import LAYERS, Growth, Law, Reach, growth

SWEEPS = 100
SEEDS = 3
DEPTHS = np.array([8, 14, 20, 26, 32, 38, 44, 50, 56])
# Coefficients of the laws, slopes per ten layers; and standard deviations over depths and over seeds.
LAWS = {"exponential": [5, 0.5], "power law": [3, 1.5], "quadratic": [5.5, 0.1, 0.08], "no growth": [5, 0]}
BETWEEN, WITHIN = 0.1, 0.15
CURVES = 100
TAU, POWER = 0.2, 0.8
TIMES = (np.arange(80) + 0.5) / 80
NOISE, CORRELATION = 0.03, 0.5


class Case(NamedTuple):
    """Sweeps to simulate.

    Attributes:
      law: of growth, one of ``LAWS``.
      between: standard deviation of the effect of depth on the logarithm of the steps.
      deepest: net that still reaches the threshold, without scatter; deeper ones are censored.
    """

    law: str
    between: float
    deepest: int

    def sweep(self, random: np.random.Generator) -> list[Reach]:
        """Return the runs of a simulated sweep."""
        name = "exponential" if self.law == "no growth" else self.law
        middle = Law(name, LAWS[self.law], 0.0, 0.0, 0.0).logarithms(DEPTHS)
        limit = np.exp(middle[self.deepest >= DEPTHS].max() + 0.05) if self.deepest < DEPTHS.max() else np.inf
        effects = random.normal(0, self.between, (len(DEPTHS), 1))
        steps = np.exp(middle[:, None] + effects + random.normal(0, WITHIN, (len(DEPTHS), SEEDS)))
        return [
            Reach("", depth, 0.1, min(value, limit), ABOVE if value > limit else EXACT, False, False)
            for depth, row in zip(DEPTHS.tolist(), steps.tolist(), strict=True)
            for value in row
        ]


CASES = {
    "exponential": Case("exponential", BETWEEN, 56),
    "exponential, no effect of depth": Case("exponential", 0.0, 56),
    "exponential, the four deepest nets censored": Case("exponential", BETWEEN, 32),
    "power law": Case("power law", BETWEEN, 56),
    "power law, the four deepest nets censored": Case("power law", BETWEEN, 32),
    "quadratic": Case("quadratic", BETWEEN, 56),
    "quadratic, the four deepest nets censored": Case("quadratic", BETWEEN, 32),
    "no growth": Case("no growth", BETWEEN, 56),
}


def naive_slope(growth: Growth) -> float:
    """Return kappa by least squares without the censored runs, per ten layers."""
    exact = [each for each in growth.reaches if each.side == EXACT]
    return float(np.polyfit([each.depth / LAYERS for each in exact], np.log([each.steps for each in exact]), 1)[0])


def growth_results(case: Case) -> dict[str, float | None]:
    """Return how often the interval and the choice of the law are right in sweeps of ``case``."""
    random = np.random.default_rng(0)
    found = [growth("", 0.5, case.sweep(random)) for _ in range(SWEEPS)]
    laws = [each.steps for each in found if each.steps]
    # Laws said: the best one, if the next is distinguished from it.
    said = [each.ranking[0][0] if each.ranking[1][1] >= LEAST_EVIDENCE else "" for each in laws]
    bends = [name == "quadratic" and (each.bend or 0.0) < 0.05 for name, each in zip(said, laws, strict=True)]
    is_straight = case.law in ("exponential", "no growth")
    slope = LAWS[case.law][1]
    held = [np.log(each.interval[0]) <= slope <= np.log(each.interval[1]) for each in laws]
    return {
        "laws fitted (%)": percent([bool(each.steps) for each in found]),
        "interval contains the slope (%)": percent(held) if is_straight else None,
        "slope per ten layers": slope if is_straight else None,
        "mean of its estimates": round(float(np.mean([np.log(each.factor) for each in laws])), 4),
        "mean without the censored runs": round(float(np.mean([naive_slope(each) for each in found])), 4),
        "exponential excluded (%)": percent([dict(each.ranking)["exponential"] >= LEAST_EVIDENCE for each in laws]),
        "power law excluded (%)": percent([dict(each.ranking)["power law"] >= LEAST_EVIDENCE for each in laws]),
        "quadratic said (%)": percent([name == "quadratic" for name in said]),
        "and with p < 0.05 (%)": percent(bends),
    }


def percent(values: list[bool]) -> float:
    """Return the share of ``values`` that are true, in per cent."""
    return round(100 * float(np.mean(values)), 1)


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
