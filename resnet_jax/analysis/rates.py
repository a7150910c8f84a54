"""How fast nets learn: how their training loss falls, and how the steps to a threshold grow with depth.

All is read from the running training loss within the first segment of constant learning rate, after warm-up and
ramp-up and before the first cut: across a cut the loss falls by the cut. He et al. 2015, section 4.1, conjecture that
deep plain nets "may have exponentially low convergence rates": of log T = c + kappa depth that is a kappa above 0.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from resnet_jax.analysis import censored
from resnet_jax.analysis.decay import Decay, decay
from resnet_jax.analysis.runs import Replicates, Run, group_depths

# The share of a segment that a fit of the loss leaves out at its beginning.
LEFT_OUT = 0.05
LEAST_DEPTHS, LEAST_REACHED = 6, 3
# What the logarithm of the steps to a threshold is linear in.
LAWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"exponential": np.asarray, "power law": np.log}
LAYERS = 10
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
      diverged: whether a non-finite loss ends it.
      unfinished: whether it ends because the run has not gone on.
    """

    begin: int
    end: int
    ends: np.ndarray
    losses: np.ndarray
    window: int
    diverged: bool
    unfinished: bool

    @property
    def lengths(self) -> np.ndarray:
        """The steps of each record."""
        return np.diff(self.ends, prepend=self.begin)


class Reach(NamedTuple):
    """When a run has reached a threshold.

    Attributes:
      run: its name.
      depth: weighted layers.
      steps: to the threshold; if censored, the steps that it took more or less than.
      side: of ``censored``: EXACT, ABOVE if it is not reached, BELOW if it is from the first record on.
      diverged: whether it is not reached because the run diverged.
      unfinished: whether it is not reached because the run has not gone on.
    """

    run: str
    depth: int
    steps: float
    side: int
    diverged: bool
    unfinished: bool


class Law(NamedTuple):
    """How the logarithm of the steps grows.

    Attributes:
      slope: with depth (exponential) or with the logarithm of depth (power law).
      interval: its 95 % confidence interval.
      intercept: of the line.
      log_likelihood: of the fit.
    """

    slope: float
    interval: tuple[float, float]
    intercept: float
    log_likelihood: float


class Growth(NamedTuple):
    """How the steps to a threshold grow with depth in one series.

    Attributes:
      series: its name.
      threshold: training loss in nats.
      reaches: one per run.
      laws: by name; empty if they cannot be fitted.
      advantage: AIC of the power law less that of the exponential; above 0 the exponential fits better.
      problem: why there are no laws; empty if there are.
    """

    series: str
    threshold: float
    reaches: list[Reach]
    laws: dict[str, Law]
    advantage: float
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
        growths += [growth(series, each, [reach(*pair, each) for pair in usable]) for each in thresholds]
    return Rates(decays, growths, remarks)


def warm_up(run: Run) -> int:
    """Return how many steps of ``run`` are warm-up or ramp-up."""
    config = run.config
    is_warmed = config["model.depth"] >= config["optimizer.warmup_min_depth"]
    is_ramped = config["optimizer.rampup_fraction"] < 1
    return max(config["optimizer.warmup_steps"] * is_warmed, config["optimizer.rampup_steps"] * is_ramped)


def first_segment(run: Run) -> Segment | None:
    """Return the first segment of constant learning rate of ``run``; None if no record lies in it alone.

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
    ends = np.array([line["step"] for _, line in same])
    steps_per_epoch = last["step"] / last["epoch"]
    return Segment(
        begin,
        int(ends[len(finite)] if diverged else ends[-1]),
        ends[: len(finite)],
        np.array([line["loss"] for _, line in finite]),
        max(1, round(steps_per_epoch / float(np.median(np.diff(ends, prepend=begin))))),
        diverged,
        not diverged and not run.finished and last is lines[-1],
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

    Between records the logarithm of the loss is interpolated.
    """
    losses = np.array([]) if segment.diverged else smoothed(segment)
    middles = segment.ends - segment.lengths / 2
    above = np.flatnonzero(losses > threshold)

    def reached(steps: float, side: int) -> Reach:
        is_open = side == censored.ABOVE
        depth = run.config["model.depth"]
        return Reach(run.name, depth, steps, side, segment.diverged and is_open, segment.unfinished and is_open)

    if segment.diverged or (len(above) and above[-1] == len(losses) - 1):
        return reached(float(segment.end), censored.ABOVE)
    if not len(above):
        return reached(float(middles[0]), censored.BELOW)
    around = slice(above[-1], above[-1] + 2)
    falling = np.log(np.maximum(losses[around], LEAST_LOSS))[::-1]
    return reached(float(np.interp(np.log(threshold), falling, middles[around][::-1])), censored.EXACT)


def growth(series: str, threshold: float, reaches: list[Reach]) -> Growth:
    """Return how the steps of ``reaches`` grow with depth in ``series``, if there are enough depths."""
    depths = {each.depth for each in reaches}
    reached = {each.depth for each in reaches if each.side == censored.EXACT}
    if len(depths) < LEAST_DEPTHS:
        problem = f"the law of growth needs six depths, and {len(depths)} are there"
    elif len(reached) < LEAST_REACHED:
        problem = f"the law of growth needs three depths at which a run reaches it, and {len(reached)} are there"
    else:
        laws = fit_laws(reaches)
        advantage = 2 * (laws["exponential"].log_likelihood - laws["power law"].log_likelihood)
        return Growth(series, threshold, reaches, laws, advantage, "")
    return Growth(series, threshold, reaches, {}, 0.0, problem)


def fit_laws(reaches: Sequence[Reach]) -> dict[str, Law]:
    """Return both laws fitted to ``reaches``."""
    depths = np.array([each.depth for each in reaches], float)
    logarithms = np.log([each.steps for each in reaches])
    sides = np.array([each.side for each in reaches])
    laws = {}
    for name, transform in LAWS.items():
        line = censored.fit(transform(depths), logarithms, sides)
        interval = censored.slope_interval(transform(depths), logarithms, sides)
        laws[name] = Law(line.slope, interval, line.intercept, line.log_likelihood)
    return laws
