"""Convergence rates in words and as a record."""

import collections
import math
from typing import Any

from resnet_jax.analysis.censored import ABOVE, BELOW
from resnet_jax.analysis.decay import LEAST_EVIDENCE, Decay
from resnet_jax.analysis.rates import LAYERS, Growth, Rates


def sentences(rates: Rates) -> list[str]:
    """Return ``rates`` in words: growth with depth, then the loss of each net, then remarks."""
    found = [f"{growth_sentence(growth)}{censored_sentence(growth)}" for growth in rates.growths]
    return found + [decay_sentence(decay) for decay in rates.decays] + rates.remarks


def growth_sentence(growth: Growth) -> str:
    """Return how the steps to a threshold grow with depth, or why that is not known."""
    head = f"{growth.series}, steps to a training loss of {growth.threshold:g}"
    if growth.problem:
        return f"{head}: {growth.problem}."
    exponential, power = growth.laws["exponential"], growth.laws["power law"]
    factors = [math.exp(min(LAYERS * slope, 700)) for slope in (exponential.slope, *exponential.interval)]
    head += f": times {factors[0]:.3g} per ten layers (95 % interval {factors[1]:.3g} to {factors[2]:.3g})"
    exponent = f"exponent {power.slope:.2f}, {power.interval[0]:.2f} to {power.interval[1]:.2f}"
    evidence = f"AIC differs by {abs(growth.advantage):.1f}"
    if abs(growth.advantage) < LEAST_EVIDENCE:
        return f"{head}; exponential in depth and a power law ({exponent}) cannot be distinguished ({evidence})."
    if growth.advantage > 0:
        return f"{head}; exponential in depth rather than a power law ({exponent}; {evidence})."
    return f"{head}; a power law of depth ({exponent}) rather than exponential ({evidence})."


def censored_sentence(growth: Growth) -> str:
    """Return how many runs are censored and why; empty if none is."""
    counts = collections.Counter(each.side for each in growth.reaches)
    found = ""
    if counts[ABOVE]:
        diverged = sum(each.diverged for each in growth.reaches)
        unfinished = sum(each.unfinished for each in growth.reaches)
        why = [f"{count} {word}" for count, word in ((diverged, "diverged"), (unfinished, "unfinished")) if count]
        found += f" {counts[ABOVE]} of {len(growth.reaches)} runs did not reach it"
        found += f" ({', '.join(why)})" * bool(why) + " and are censored: they count as taking longer."
    if counts[BELOW]:
        found += f" {counts[BELOW]} of {len(growth.reaches)} were there at the first record: they count as taking less."
    return found


def decay_sentence(decay: Decay) -> str:
    """Return how the loss of a net falls, or why that is not known."""
    problems = "; ".join(f"{count} x {text}" for text, count in collections.Counter(decay.problems).items())
    if decay.law is None or decay.interval is None:
        return f"{decay.net}: {problems or 'no rate of the loss, because every run diverged or has no record of it'}."
    seeds = f"{decay.seeds} seed{'s' if decay.seeds > 1 else ''}"
    if decay.law == "exponential":
        low, high = (f"{bound:,.0f}" if bound < 1e9 else f"{bound:.0e}" for bound in decay.interval)
        rate = f"exponentially, tau = {decay.rate:,.0f} steps (95 % interval {low} to {high}"
    else:
        low, high = (f"{bound:.3g}" for bound in decay.interval)
        rate = f"as a power law of the steps, p = {decay.rate:.3g} (95 % interval {low} to {high}"
    evidence = f"AIC differs by {abs(decay.advantage):.1f}"
    if abs(decay.advantage) < LEAST_EVIDENCE:
        evidence = f"a power law cannot be distinguished, {evidence}"
    rest = f"; {problems}" if problems else ""
    return f"{decay.net}: the training loss falls {rate}, {seeds}; {evidence}){rest}."


def record(rates: Rates) -> dict[str, Any]:
    """Return all numbers of ``rates`` for a JSON file; those that are not finite as None."""
    return {
        "decays": [plain(decay) for decay in rates.decays],
        "growths": [plain(growth) for growth in rates.growths],
        "remarks": rates.remarks,
    }


def plain(value: Any) -> Any:
    """Return ``value``, of named tuples, as dictionaries and lists."""
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
