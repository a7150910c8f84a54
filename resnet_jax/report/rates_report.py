"""Convergence rates in words, as a table and as a record."""

import collections
import math
from collections.abc import Sequence
from typing import Any

from resnet_jax.analysis.censored import ABOVE, BELOW, CONFIDENCE
from resnet_jax.analysis.decay import LEAST_EVIDENCE, Decay
from resnet_jax.analysis.rates import Growth, Laws, Rates

# Columns of the laws in the table, which fits into a terminal of 80 characters.
COLUMNS = {"exponential": "exp.", "power law": "pow.", "quadratic": "quad"}
CAPTION = (
    "The table shows up to which depth runs reach the loss; the factor per ten layers in steps, and in steps times "
    "learning rate where rates differ, with its 95 % interval; and by how much the AIC of each law of depth exceeds "
    f"the lowest. Laws that differ by less than {LEAST_EVIDENCE:g} cannot be distinguished."
)


def sentences(rates: Rates) -> list[str]:
    """Return ``rates`` in words: what the table shows, growth with depth, the loss of each net, then remarks."""
    found = [f"{growth_sentence(growth)}{censored_sentence(growth)}" for growth in rates.growths]
    decays = [decay_sentence(decay) for decay in rates.decays]
    return [CAPTION] * bool(rows(rates)) + found + decays + rates.remarks


def rows(rates: Rates) -> list[dict[str, str]]:
    """Return the laws of growth as a table, one row per series and threshold; empty without laws."""
    fitted = [(growth, growth.steps) for growth in rates.growths if growth.steps]
    has_rates = any(growth.progress for growth, _ in fitted)
    return [row(growth, steps, has_rates) for growth, steps in fitted]


def row(growth: Growth, steps: Laws, has_rates: bool) -> dict[str, str]:
    """Return the row of ``growth`` with the laws ``steps``; ``has_rates``: with steps times learning rate."""
    higher = dict(steps.ranking)
    return {
        "net": growth.series,
        "loss": f"{growth.threshold:g}",
        "up to": str(steps.measured[1]),
        "steps": short(steps),
        "steps x rate": short(growth.progress or steps) if has_rates else "",
    } | {column: f"{higher[name]:.1f}" if name in higher else "" for name, column in COLUMNS.items()}


def short(laws: Laws) -> str:
    """Return the growth of ``laws`` per ten layers and its interval."""
    return f"{laws.factor:.2f} ({bound(laws.interval[0])}-{bound(laws.interval[1])})"


def bound(factor: float) -> str:
    """Return an end of an interval of growth; one as great as this says nothing."""
    return f"{factor:.2f}" if factor < 100 else ">100"


def growth_sentence(growth: Growth) -> str:
    """Return how the steps to a threshold grow with depth, or why that is not known."""
    head = f"{growth.series}, steps to a training loss of {growth.threshold:g}"
    if growth.steps is None:
        return f"{head}: {growth.problem}."
    least, most = growth.steps.measured
    words = f"{head}: {factor_words(growth.steps)} per ten layers on average"
    if growth.progress:
        words += f", steps times learning rate: {factor_words(growth.progress)}"
    words += f"; measured from {least} up to {most} layers"
    deeper = sorted({each.depth for each in growth.reaches if each.depth > most})
    if deeper:
        words += f", all runs of {listed(deeper)} layers are censored"
    return f"{words}. {preference(growth.steps)}."


def factor_words(laws: Laws) -> str:
    """Return the growth of ``laws`` with its interval, in words."""
    return f"times {laws.factor:.2f} (95 % interval {bound(laws.interval[0])} to {bound(laws.interval[1])})"


def preference(laws: Laws) -> str:
    """Return the best of ``laws``, or those that cannot be distinguished."""
    level = [(name, higher) for name, higher in laws.ranking if higher < LEAST_EVIDENCE]
    worse = [(name, higher) for name, higher in laws.ranking if higher >= LEAST_EVIDENCE]
    if len(level) > 1:
        names = listed([f"the {name}" for name, _ in level]).capitalize()
        words = f"{names} cannot be distinguished (AIC differs by {level[-1][1]:.1f})"
        return words + "".join(f"; the {name} fits worse (AIC higher by {higher:.1f})" for name, higher in worse)
    best = level[0][0]
    words = f"The {best} fits best"
    if worse:
        words += f" (AIC lower by {listed([f'{higher:.1f} than the {name}' for name, higher in worse])})"
    if best == "power law":
        return f"{words}, exponent {laws.fitted[best].coefficients[1]:.2f}"
    return f"{words}: {bend_words(laws)}" if best == "quadratic" else words


def bend_words(laws: Laws) -> str:
    """Return how the growth of the quadratic of ``laws`` changes with depth, and how sure that is."""
    law = laws.fitted["quadratic"]
    assert laws.bend is not None
    change = "accelerates" if law.coefficients[2] > 0 else "slows down"
    least, most = (f"times {law.factor(depth):.2f} at {depth}" for depth in laws.measured)
    words = f"the growth {change} with depth, from {least} layers to {most} (p = {laws.bend:.2g})"
    return words if laws.bend < 1 - CONFIDENCE else f"a hint, with so few depths, that {words}"


def listed(values: Sequence[object]) -> str:
    """Return ``values`` in words: "a", "a and b", "a, b and c"."""
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}" if first else last


def censored_sentence(growth: Growth) -> str:
    """Return the number of censored runs of each depth and the causes; empty if none is censored."""
    found = ""
    above = [each for each in growth.reaches if each.side == ABOVE]
    if above:
        runs = collections.Counter(each.depth for each in growth.reaches)
        depths = collections.Counter(each.depth for each in above)
        which = [f"{depths[depth]} of {runs[depth]} with {depth} layers" for depth in sorted(depths)]
        causes = (
            ("diverged", sum(each.diverged for each in above)),
            ("unfinished", sum(each.unfinished for each in above)),
        )
        why = [f"{count} {word}" for word, count in causes if count]
        found += f" {len(above)} of {len(growth.reaches)} runs did not reach it: {listed(which)}"
        found += f" ({', '.join(why)})" * bool(why) + "."
        found += " They are censored: they count as taking longer." * bool(growth.steps)
    below = sum(each.side == BELOW for each in growth.reaches)
    if below:
        found += f" {below} of {len(growth.reaches)} were there at the first record"
        found += ": they count as taking less." if growth.steps else "."
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
    """Return all numbers of ``rates`` for a JSON file, of every threshold; those that are not finite as None."""
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
