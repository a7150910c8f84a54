"""How often the intervals and words of the analysis are right, in simulated sweeps.

    python -m tests.analysis.coverage    # writes coverage.json next to this file and the tables of docs/coverage.md

Thirteen minutes on one core. ``test_coverage.py`` holds the record against smaller simulations.
"""

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import measure, table
from resnet_jax.analysis.censored import ABOVE, EXACT
from resnet_jax.analysis.decay import LEAST_EVIDENCE, decay, fit_curve
from resnet_jax.analysis.gap import LEAST_SEEDS, MARGIN, gap
from resnet_jax.analysis.rates import LAYERS, Growth, Law, Reach, growth
from resnet_jax.analysis.tuning import Candidate, decide
from resnet_jax.report.tables import markdown_table
from resnet_jax.safe_files import write_json
from resnet_jax.sweeps.claims import DEGRADES, DOES_NOT_DEGRADE

RECORD = pathlib.Path(__file__).parent / "coverage.json"
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "coverage.md"

Shares = dict[str, float | None]


def percent(values: Sequence[Any]) -> float:
    """Return the percentage of ``values`` that are true."""
    return round(100 * float(np.mean([bool(value) for value in values])), 1)


# The verdict: two nets whose errors follow one law, the deeper one's with a larger scale.

VERDICT_SWEEPS = 4_000
VERDICT_SEEDS = (LEAST_SEEDS, 4, 5, 10)
VERDICT_TIMES = (1, 3, 10)
# Mean error of the shallower net, and the scale of its scatter.
ERROR, SCATTER = 0.1, 0.002
# Probability that a run fails, and by how many scales its error is then higher.
FAILS, FAILURE = 0.15, 10


def failing(random: np.random.Generator, size: int) -> np.ndarray:
    """Return normal values, 15 % of them too high by a failure."""
    return random.standard_normal(size) + FAILURE * (random.random(size) < FAILS)


# Errors of seeds about their mean, in units of the scale.
ERROR_LAWS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda random, size: random.standard_normal(size),
    "t with 3 degrees": lambda random, size: random.standard_t(3, size),
    "lognormal": lambda random, size: random.lognormal(0, 1, size) - np.exp(0.5),
    "15 % of runs fail": lambda random, size: failing(random, size) - FAILS * FAILURE,
}


def verdict(law: str, times: float, seeds: int, sweeps: int = VERDICT_SWEEPS) -> Shares:
    """Return how often the interval contains the true gap and the words are wrong: "degrades" of 0, its denial of 1."""
    random = np.random.default_rng(0)
    draw = ERROR_LAWS[law]
    held, degrades, does_not = [], [], []
    for _ in range(sweeps):
        deep = ERROR + times * SCATTER * draw(random, seeds)
        shallow = ERROR + SCATTER * draw(random, seeds)
        equal = gap(deep, shallow)
        assert equal.interval is not None
        held.append(equal.interval[0] <= 0 <= equal.interval[1])
        degrades.append(equal.word == DEGRADES)
        does_not.append(gap(deep + MARGIN, shallow).word == DOES_NOT_DEGRADE)
    return {
        "interval contains the gap (%)": percent(held),
        "false degrades (%)": percent(degrades),
        "false does not degrade (%)": percent(does_not),
    }


# Tuned sweeps: each net chooses the best of three rates by validation error.

TUNED_SWEEPS = 1_000
SEEDS = 3
RATES = (0.01, 0.03, 0.1)
COMMON_RATE = 0.03
GAP = 0.03
DEVIATION = 0.01
# Validation errors: their correlation with training errors, and the sampling noise of 5,000 examples at 10 %.
SHARED, SAMPLING = 0.7, 0.004
# By how much the mean error at each rate exceeds the best one's, and how likely a run diverges.
TUNED = {
    "one rate is best by three standard deviations": ((0.03, 0.0, 0.03), (0.0, 0.0, 0.0)),
    "rates are a standard deviation apart": ((0.01, 0.0, 0.01), (0.0, 0.0, 0.0)),
    "all rates are equal": ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    "half of the runs at the best rate diverge": ((0.03, 0.01, 0.0), (0.0, 0.0, 0.5)),
}


def chosen_errors(random: np.random.Generator, best: float, case: str) -> tuple[np.ndarray, float]:
    """Return a net's training errors at the rate that it chooses, ``[seeds]``, and their true mean."""
    more, divergence = (np.array(part) for part in TUNED[case])
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
    chosen = decide("", candidates, COMMON_RATE).chosen
    assert chosen is not None
    place = RATES.index(chosen.value)
    return training[place][finished[place]], best + more[place]


def tuned(case: str, sweeps: int = TUNED_SWEEPS) -> Shares:
    """Return how often the interval contains the gap of the best and of the chosen rates, and "degrades" is wrong."""
    random = np.random.default_rng(0)
    best, chosen, degrades = [], [], []
    for _ in range(sweeps):
        deep, deep_mean = chosen_errors(random, 0.1 + GAP, case)
        shallow, shallow_mean = chosen_errors(random, 0.1, case)
        low, high = gap(deep, shallow).interval or (np.nan, np.nan)
        best.append(low <= GAP <= high)
        chosen.append(low <= deep_mean - shallow_mean <= high)
        degrades.append(gap(chosen_errors(random, 0.1, case)[0], shallow).word == DEGRADES)
    return {
        "interval contains the gap of the best rates (%)": percent(best),
        "interval contains the gap of the chosen rates (%)": percent(chosen),
        "false degrades (%)": percent(degrades),
    }


# Growth: nine depths whose steps to a threshold grow by a law; runs are censored beyond a number of steps.

GROWTH_SWEEPS = 100
DEPTHS = np.array([8, 14, 20, 26, 32, 38, 44, 50, 56])
# Coefficients of the laws, slopes per ten layers; and standard deviations over depths and over seeds.
GROWTH_LAWS = {"exponential": [5, 0.5], "power law": [3, 1.5], "quadratic": [5.5, 0.1, 0.08], "no growth": [5, 0]}
BETWEEN, WITHIN = 0.1, 0.15


class Sweep(NamedTuple):
    """Sweeps to simulate.

    Attributes:
      law: one of ``GROWTH_LAWS``.
      between: standard deviation of the effect of depth on the logarithm of the steps.
      deepest: net that still reaches the threshold, without scatter; deeper ones are censored.
    """

    law: str
    between: float = BETWEEN
    deepest: int = 56

    def reaches(self, random: np.random.Generator) -> list[Reach]:
        """Return the runs of a simulated sweep."""
        name = "exponential" if self.law == "no growth" else self.law
        middle = Law(name, GROWTH_LAWS[self.law], 0.0, 0.0, 0.0).logarithms(DEPTHS)
        limit = np.exp(middle[self.deepest >= DEPTHS].max() + 0.05) if self.deepest < DEPTHS.max() else np.inf
        effects = random.normal(0, self.between, (len(DEPTHS), 1))
        steps = np.exp(middle[:, None] + effects + random.normal(0, WITHIN, (len(DEPTHS), SEEDS)))
        return [
            Reach("", depth, 0.1, min(value, limit), ABOVE if value > limit else EXACT, False, False)
            for depth, row in zip(DEPTHS.tolist(), steps.tolist(), strict=True)
            for value in row
        ]


GROWTH = {
    "exponential": Sweep("exponential"),
    "exponential, no effect of depth": Sweep("exponential", between=0.0),
    "exponential, four of nine depths censored": Sweep("exponential", deepest=32),
    "power law": Sweep("power law"),
    "power law, four of nine depths censored": Sweep("power law", deepest=32),
    "quadratic": Sweep("quadratic"),
    "quadratic, four of nine depths censored": Sweep("quadratic", deepest=32),
    "no growth": Sweep("no growth"),
}


def naive_slope(found: Growth) -> float:
    """Return kappa by least squares without the censored runs, per ten layers."""
    exact = [each for each in found.reaches if each.side == EXACT]
    return float(np.polyfit([each.depth / LAYERS for each in exact], np.log([each.steps for each in exact]), 1)[0])


def growths(case: str, sweeps: int = GROWTH_SWEEPS) -> Shares:
    """Return how often the interval and the choice of the law are right; slopes only where the truth has one."""
    law, random = GROWTH[case].law, np.random.default_rng(0)
    found = [growth("", 0.5, GROWTH[case].reaches(random)) for _ in range(sweeps)]
    laws = [each.steps for each in found if each.steps]
    # The law named: the best one, if the next is distinguished from it.
    said = [each.ranking[0][0] if each.ranking[1][1] >= LEAST_EVIDENCE else "" for each in laws]
    bends = [name == "quadratic" and (each.bend or 0.0) < 0.05 for name, each in zip(said, laws, strict=True)]
    has_slope = law in ("exponential", "no growth")
    slope = GROWTH_LAWS[law][1]
    held = [np.log(each.interval[0]) <= slope <= np.log(each.interval[1]) for each in laws]
    return {
        "laws fitted (%)": percent([each.steps for each in found]),
        "interval contains the slope (%)": percent(held) if has_slope else None,
        "true slope": slope if has_slope else None,
        "mean estimate": round(float(np.mean([np.log(each.factor) for each in laws])), 4),
        "mean without censored runs": round(float(np.mean([naive_slope(each) for each in found])), 4),
        "exponential excluded (%)": percent([dict(each.ranking)["exponential"] >= LEAST_EVIDENCE for each in laws]),
        "power law excluded (%)": percent([dict(each.ranking)["power law"] >= LEAST_EVIDENCE for each in laws]),
        "quadratic preferred (%)": percent([name == "quadratic" for name in said]),
        "with p < 0.05 (%)": percent(bends),
    }


# Decay: losses that fall by a law, with noise that correlates from one window to the next, or do not fall.

CURVES = 100
TAU, POWER = 0.2, 0.8
TIMES = (np.arange(80) + 0.5) / 80
NOISE, CORRELATION = 0.03, 0.5
DECAY = {
    f"{law}, {seeds} seed{'s' * (seeds > 1)}": (law, seeds)
    for law in ("exponential", "power law")
    for seeds in (1, SEEDS)
}


def noisy(curve: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return ``curve`` with autocorrelated noise on its logarithm."""
    noise = random.normal(0, NOISE, len(curve))
    for index in range(1, len(noise)):
        noise[index] = CORRELATION * noise[index - 1] + np.sqrt(1 - CORRELATION**2) * noise[index]
    return curve * np.exp(noise)


def decays(case: str, curves: int = CURVES) -> Shares:
    """Return how often the law is right and, where it is, the interval contains the rate."""
    (law, seeds), random = DECAY[case], np.random.default_rng(0)
    exponential = law == "exponential"
    curve = 0.1 + 2 * np.exp(-TIMES / TAU) if exponential else 0.02 + 2 * (1 + TIMES / 0.05) ** -POWER
    found = [decay("", [(TIMES, noisy(curve, random), 1.0) for _ in range(seeds)]) for _ in range(curves)]
    intervals = [each.interval for each in found if each.law == law and each.interval]
    held = [low <= (TAU if exponential else POWER) <= high for low, high in intervals]
    return {
        "right law (%)": round(100 * len(intervals) / curves, 1),
        "interval contains the rate (%)": percent(held) if held else None,
    }


def plateaus(curves: int = 2 * CURVES) -> Shares:
    """Return how often a loss that does not fall is given no rate."""
    random = np.random.default_rng(0)
    flat = [fit_curve(TIMES, noisy(np.full(len(TIMES), 2.3), random)).problem for _ in range(curves)]
    return {"no rate (%)": percent(flat)}


def verdict_table(results: dict[str, Any]) -> str:
    """Return the table of verdicts in Markdown: three percentages in each cell."""
    rows = []
    for law in ERROR_LAWS:
        for seeds in VERDICT_SEEDS:
            cells = {
                f"{times} : 1": " / ".join(str(share) for share in results[law][name(seeds, times)].values())
                for times in VERDICT_TIMES
            }
            rows.append({"errors": law, "seeds": str(seeds), **cells})
    return markdown_table(rows, left=("errors",))


def name(seeds: int, times: int) -> str:
    """Return the name of a simulation of the verdict in the record."""
    return f"{seeds} seeds, scatter {times} : 1"


def shares_table(results: dict[str, Shares]) -> str:
    """Return ``results`` as a table in Markdown with a row for each."""

    def text(share: float | None) -> str:
        return "" if share is None else f"{share:g}"

    rows = [{"truth": case, **{key: text(share) for key, share in shares.items()}} for case, shares in results.items()]
    return markdown_table(rows, left=("truth",))


def page(text: str) -> str:
    """Return the page ``text`` with the tables of the record."""
    results = read()
    tables = {each: shares_table(results[each]) for each in ("tuned", "growth", "decay")}
    return table.filled(text, tables | {"verdict": verdict_table(results["verdict"])})


def read() -> dict[str, Any]:
    """Return the results of the record."""
    return json.loads(RECORD.read_text())["results"]


def main() -> None:
    """Simulate, record and write the tables."""
    results = {
        "verdict": {
            law: {name(seeds, times): verdict(law, times, seeds) for seeds in VERDICT_SEEDS for times in VERDICT_TIMES}
            for law in ERROR_LAWS
        },
        "tuned": {case: tuned(case) for case in TUNED},
        "growth": {case: growths(case) for case in GROWTH},
        "decay": {case: decays(case) for case in DECAY},
        "plateau": plateaus(),
    }
    write_json(RECORD, measure.record("coverage", results))
    PAGE.write_text(page(PAGE.read_text()))


if __name__ == "__main__":
    main()
