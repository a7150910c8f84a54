"""How fast nets learn: how their training loss falls, and how the steps to a threshold grow with depth.

All is read from the running training loss within the first segment of constant learning rate, after warm-up and
ramp-up and before the first cut: across a cut the loss falls by the cut. He et al. 2015, section 4.1, conjecture that
deep plain nets "may have exponentially low convergence rates": the logarithm of the steps T would be linear in depth.
Three laws of depth d are compared, each with a random effect of depth (``censored``):

    exponential    log T = c + kappa d
    power law      log T = c + q log d
    quadratic      log T = c + kappa d + curvature d²

Steps times the learning rate are fitted as well: the steps of nets with different rates, such as each net's own best,
differ because of the rates too.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from resnet_jax.analysis import censored
from resnet_jax.analysis.decay import Decay, decay
from resnet_jax.analysis.runs import Replicates, Run, group_depths

# The share of a segment that a fit of the loss leaves out at its beginning.
LEFT_OUT = 0.05
LEAST_DEPTHS, LEAST_REACHED = 6, 3
LAYERS = 10
# Columns, ``[depths, columns]``, in which the logarithm of the steps is linear; slopes are per ten layers.
LAWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exponential": lambda depths: (depths / LAYERS)[:, None],
    "power law": lambda depths: np.log(depths)[:, None],
    "quadratic": lambda depths: np.stack([depths / LAYERS, (depths / LAYERS) ** 2], axis=1),
}
# Nats; a smaller loss is the rounding of float32.
LEAST_LOSS = 1e-7


class Segment(NamedTuple):
    """The running training loss of a run while the learning rate is constant.

    Attributes:
      begin: steps made before it.
      end: steps made at its end; of a diverged run, at the first non-finite loss.
      ends: steps made at the end of each record with a finite loss, ``[records]``.
      losses: means over the steps of each record, in nats, ``[records]``.
      window: records in about an epoch.
      rate: learning rate.
      diverged: whether a non-finite loss ends it.
      unfinished: whether it ends because the run has not been continued.
      is_low: whether config.stop_below_loss ends it, by the loss of its last record.
    """

    begin: int
    end: int
    ends: np.ndarray
    losses: np.ndarray
    window: int
    rate: float
    diverged: bool
    unfinished: bool
    is_low: bool

    @property
    def lengths(self) -> np.ndarray:
        """The steps of each record."""
        return np.diff(self.ends, prepend=self.begin)


class Reach(NamedTuple):
    """When a run reaches a threshold.

    Attributes:
      run: its name.
      depth: weighted layers.
      rate: learning rate.
      steps: to the threshold; of a censored run, a limit that the true steps are above or below.
      side: of ``censored``: EXACT, ABOVE if it is not reached, BELOW if it is from the first record on.
      diverged: whether it is not reached because the run diverged.
      unfinished: whether it is not reached because the run has not been continued.
    """

    run: str
    depth: int
    rate: float
    steps: float
    side: int
    diverged: bool
    unfinished: bool


class Law(NamedTuple):
    """A law fitted to the logarithm of the steps.

    Attributes:
      name: one of ``LAWS``.
      coefficients: constant, then slopes of the columns of ``LAWS``.
      between: standard deviation of the effect of depth.
      within: standard deviation over seeds of one depth.
      aic: Akaike's criterion; the two standard deviations count as parameters.
    """

    name: str
    coefficients: list[float]
    between: float
    within: float
    aic: float

    def logarithms(self, depths: np.ndarray) -> np.ndarray:
        """Return the fitted logarithm of the steps at ``depths``, both ``[depths]``."""
        return self.coefficients[0] + LAWS[self.name](depths) @ np.array(self.coefficients[1:])

    def factor(self, depth: float) -> float:
        """Return the growth per ten layers at ``depth``, from five layers less to five more."""
        less, more = self.logarithms(depth + np.array([-LAYERS / 2, LAYERS / 2])).tolist()
        return power(more - less)


class Laws(NamedTuple):
    """All laws fitted to the steps, or to steps times the learning rate.

    Attributes:
      fitted: by name; a law is fitted if more depths reach the threshold than it has coefficients.
      factor: average growth per ten layers, of the exponential.
      interval: its 95 % confidence interval.
      bend: p-value of the quadratic's curvature, against the exponential; None without a quadratic.
      measured: least and greatest depth at which a run reaches the threshold exactly.
    """

    fitted: dict[str, Law]
    factor: float
    interval: tuple[float, float]
    bend: float | None
    measured: tuple[int, int]

    @property
    def ranking(self) -> list[tuple[str, float]]:
        """Names of the laws, best first, and how much higher their AIC is than the best law's."""
        least = min(law.aic for law in self.fitted.values())
        return sorted(((name, law.aic - least) for name, law in self.fitted.items()), key=lambda pair: pair[1])


class Growth(NamedTuple):
    """How the steps to a threshold grow with depth in one series.

    Attributes:
      series: its name.
      threshold: training loss in nats.
      reaches: one per run.
      steps: laws of the steps; None if they cannot be fitted.
      progress: laws of steps times the learning rate; None without laws and if all runs have one rate, so that they
        grow as the steps do.
      problem: why there are no laws; empty if there are.
    """

    series: str
    threshold: float
    reaches: list[Reach]
    steps: Laws | None
    progress: Laws | None
    problem: str


class Rates(NamedTuple):
    """All that is measured, and sentences on runs that could not be or that need a word."""

    decays: list[Decay]
    growths: list[Growth]
    remarks: list[str]


def measure(nets: Sequence[Replicates], thresholds: Sequence[float]) -> Rates:
    """Return the rates of ``nets`` and how their steps to each of ``thresholds``, losses in nats, grow with depth."""
    decays, growths, remarks = [], [], []
    for series, members in group_depths(nets).items():
        usable: list[tuple[Run, Segment]] = []
        for net in members:
            segments = [(run, segment) for run in net.runs if (segment := first_segment(run)) is not None]
            decays.append(decay(net.label, [windows(segment) for _, segment in segments if not segment.diverged]))
            usable += segments
            if len(segments) < len(net.runs):
                missing = f"{len(net.runs) - len(segments)} of {len(net.runs)} runs of {net.label}"
                remarks.append(f"{missing} have no record of the loss at a constant learning rate, and are left out.")
            if steps := warm_up(net.runs[0]):
                remarks.append(f"The steps of {net.label} include {steps:,} of warm-up or ramp-up.")
        lowest = max((run.config["stop_below_loss"] or 0.0 for run, _ in usable), default=0.0)
        growths += [growth(series, each, [reach(*pair, each) for pair in usable], lowest) for each in thresholds]
    return Rates(decays, growths, remarks)


def warm_up(run: Run) -> int:
    """Return the number of warm-up or ramp-up steps of ``run``."""
    config = run.config
    is_warmed = config["model.depth"] >= config["optimizer.warmup_min_depth"]
    is_ramped = config["optimizer.rampup_fraction"] < 1
    return max(config["optimizer.warmup_steps"] * is_warmed, config["optimizer.rampup_steps"] * is_ramped)


def first_segment(run: Run) -> Segment | None:
    """Return the first segment of constant learning rate of ``run``; None if no record lies wholly in it.

    A record that begins before the segment or ends after it mixes two learning rates, and belongs to neither.
    """
    lines = [line for line in run.metrics if line["split"] == "train"]
    begins = [0, *(line["step"] for line in lines)]
    started = [(begin, line) for begin, line in zip(begins, lines, strict=False) if begin >= warm_up(run)]
    same = list(itertools.takewhile(lambda each: each[1]["lr"] == started[0][1]["lr"], started))
    if not same:
        return None
    finite = list(itertools.takewhile(lambda each: each[1]["loss"] is not None, same))
    diverged = len(finite) < len(same)
    begin, last = same[0][0], same[-1][1]
    lowest = run.config["stop_below_loss"]
    ends = np.array([line["step"] for _, line in same])
    steps_per_epoch = last["step"] / last["epoch"]
    return Segment(
        begin,
        int(ends[len(finite)] if diverged else ends[-1]),
        ends[: len(finite)],
        np.array([line["loss"] for _, line in finite]),
        max(1, round(steps_per_epoch / float(np.median(np.diff(ends, prepend=begin))))),
        last["lr"],
        diverged,
        not diverged and not run.finished and last is lines[-1],
        not diverged and lowest is not None and last["loss"] < lowest,
    )


def smoothed(segment: Segment) -> np.ndarray:
    """Return the loss averaged over about an epoch round each record, ``[records]``; less at the ends."""
    sums = np.concatenate([[0], np.cumsum(segment.losses * segment.lengths)])
    steps = np.concatenate([[0], np.cumsum(segment.lengths)])
    places = np.arange(len(segment.losses))
    first = np.maximum(places - segment.window // 2, 0)
    last = np.minimum(places + (segment.window - 1) // 2, len(places) - 1) + 1
    return (sums[last] - sums[first]) / (steps[last] - steps[first])


def windows(segment: Segment) -> tuple[np.ndarray, np.ndarray, float]:
    """Return times and losses of successive windows of about an epoch, and the steps of ``segment``.

    Times are the middle of each window since the segment's beginning, in units of its steps; both are ``[windows]``.
    The first 5 % of the segment are left out, and windows whose loss is below ``LEAST_LOSS``.
    """
    steps = float(segment.end - segment.begin)
    first = int(np.searchsorted(segment.ends - segment.lengths, segment.begin + LEFT_OUT * steps))
    first += (len(segment.ends) - first) % segment.window
    lengths = segment.lengths[first:].reshape(-1, segment.window)
    ends = segment.ends[first:].reshape(-1, segment.window)[:, -1]
    means = np.sum(segment.losses[first:].reshape(-1, segment.window) * lengths, axis=1) / lengths.sum(axis=1)
    middles = ends - segment.begin - lengths.sum(axis=1) / 2
    kept = means >= LEAST_LOSS
    return middles[kept] / steps, means[kept], steps


def reach(run: Run, segment: Segment, threshold: float) -> Reach:
    """Return the first step from which the smoothed loss of ``segment`` stays at or below ``threshold``.

    Between records the logarithm of the loss is interpolated. The record by which config.stop_below_loss ends a run is
    not smoothed: averaged only with earlier, higher losses, it might miss a threshold that it has passed.
    """
    losses = np.array([]) if segment.diverged else smoothed(segment)
    if segment.is_low:
        losses[-1] = segment.losses[-1]
    middles = segment.ends - segment.lengths / 2
    above = np.flatnonzero(losses > threshold)

    def reached(steps: float, side: int) -> Reach:
        is_open = side == censored.ABOVE
        depth = run.config["model.depth"]
        why = (segment.diverged and is_open, segment.unfinished and is_open)
        return Reach(run.name, depth, segment.rate, steps, side, *why)

    if segment.diverged or (len(above) and above[-1] == len(losses) - 1):
        return reached(float(segment.end), censored.ABOVE)
    if not len(above):
        return reached(float(middles[0]), censored.BELOW)
    around = slice(above[-1], above[-1] + 2)
    falling = np.log(np.maximum(losses[around], LEAST_LOSS))[::-1]
    return reached(float(np.interp(np.log(threshold), falling, middles[around][::-1])), censored.EXACT)


def growth(series: str, threshold: float, reaches: list[Reach], lowest: float = 0.0) -> Growth:
    """Return how the steps of ``reaches`` grow with depth in ``series``, if there are enough depths.

    ``lowest``: loss below which runs end (config.stop_below_loss); 0 if they do not.
    """
    depths = {each.depth for each in reaches}
    reached = {each.depth for each in reaches if each.side == censored.EXACT}
    problem = ""
    if threshold <= lowest:
        problem = f"not measured, because config.stop_below_loss={lowest:g} ends the runs before they reach it"
    elif len(depths) < LEAST_DEPTHS:
        problem = f"the law of growth needs six depths, not {len(depths)}"
    elif len(reached) < LEAST_REACHED:
        problem = f"the law of growth needs three depths at which a run reaches it, not {len(reached)}"
    if problem:
        return Growth(series, threshold, reaches, None, None, problem)
    rates = [each.rate for each in reaches]
    progress = fit_laws(reaches, rates) if len(set(rates)) > 1 else None
    return Growth(series, threshold, reaches, fit_laws(reaches, [1.0] * len(rates)), progress, "")


def fit_laws(reaches: Sequence[Reach], factors: Sequence[float]) -> Laws:
    """Return the laws of the steps of ``reaches``, each multiplied by one of ``factors``."""
    depths = np.array([each.depth for each in reaches], float)
    logarithms = np.log([each.steps for each in reaches]) + np.log(factors)
    sides = np.array([each.side for each in reaches])
    groups = np.unique(depths, return_inverse=True)[1]
    reached = np.unique(depths[sides == censored.EXACT]).astype(int).tolist()
    designs = {name: np.column_stack([np.ones(len(depths)), columns(depths)]) for name, columns in LAWS.items()}
    data = {
        name: censored.Data(design, logarithms, sides, groups)
        for name, design in designs.items()
        if len(reached) > design.shape[1]
    }
    fits = {name: censored.fit(each) for name, each in data.items()}
    fitted = {
        name: Law(name, each.coefficients.tolist(), each.between, each.within, each.aic) for name, each in fits.items()
    }
    low, high = censored.interval(data["exponential"], fits["exponential"], 1)
    factor = power(fitted["exponential"].coefficients[1])
    bend = censored.p_value(data["quadratic"], fits["quadratic"], fits["exponential"]) if "quadratic" in fits else None
    return Laws(fitted, factor, (power(low), power(high)), bend, (reached[0], reached[-1]))


def power(exponent: float) -> float:
    """Return e^``exponent``, infinite if that is too large."""
    return math.exp(exponent) if exponent < 700 else math.inf
