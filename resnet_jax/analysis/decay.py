"""How the training loss of a net falls within a segment of constant learning rate.

    exponential    L(t) = floor + scale exp(-t / tau)
    power law      L(t) = floor + scale (1 + t / start)^-p

Both are fitted by least squares on the logarithm of the loss, with a floor of at least 0. Akaike's criterion compares
them with each other and with no progress at all. Its number of points is the effective one, n (1 - r) / (1 + r) with r
the correlation of successive residuals of the best fit, because successive losses are alike. So it is in the
standard error of a rate where too few seeds show its scatter; a moving block bootstrap of the residuals was tried for
that and holds less often (``docs/coverage.md``).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

CONFIDENCE = 0.95
# Windows of a segment; fewer cannot separate two laws of three and four parameters.
LEAST_WINDOWS = 8
# From which number of seeds on the scatter over seeds gives the interval.
LEAST_SEEDS = 3
# A loss makes no progress if it falls by less than this share, or if a law's AIC is not so much below a constant's.
LEAST_FALL = 0.05
LEAST_PROGRESS = 4.0
# Laws whose AIC differ by less are not distinguished.
LEAST_EVIDENCE = 2.0
# Smallest mean squared residual that is not taken for 0.
LEAST_VARIANCE = 1e-12
# Parameters other than floor and scale, as logarithms, in units of the segment: grids to start from, and bounds.
GRIDS = {
    "exponential": np.log(np.geomspace(0.01, 10, 25))[:, None],
    "power law": np.stack(
        np.meshgrid(np.log(np.geomspace(0.1, 20, 12)), np.log(np.geomspace(1e-3, 10, 12))), -1
    ).reshape(-1, 2),
}
BOUNDS = {"exponential": ([np.log(1e-4)], [np.log(1e3)]), "power law": (np.log([1e-3, 1e-6]), np.log([1e3, 1e3]))}


class Fit(NamedTuple):
    """A law fitted to one curve.

    Attributes:
      parameters: floor, logarithm of the scale and, as logarithms in units of the segment, tau, or p and start.
      residuals: of the logarithm of the loss, ``[windows]``.
      jacobian: of the residuals by the parameters, ``[windows, parameters]``.
    """

    parameters: np.ndarray
    residuals: np.ndarray
    jacobian: np.ndarray

    @property
    def freedom(self) -> float:
        """The effective number of residuals less the parameters, at least 1."""
        return max(effective(self.residuals) - len(self.parameters), 1.0)

    @property
    def variance(self) -> float:
        """The variance of the logarithm of the rate, tau or p, by the effective number of residuals."""
        covariance = np.linalg.pinv(self.jacobian.T @ self.jacobian / len(self.residuals))
        return float(covariance[2, 2] * np.mean(self.residuals**2) / self.freedom)


class Curve(NamedTuple):
    """What the fits say of one curve.

    Attributes:
      fits: by law.
      advantage: AIC of the power law minus AIC of the exponential; above 0 the exponential fits better.
      problem: why no rate is identified; empty if one is.
    """

    fits: dict[str, Fit]
    advantage: float
    problem: str


class Decay(NamedTuple):
    """How the loss of a net falls.

    Attributes:
      net: its name.
      law: the exponential unless the power law fits better over all seeds; None if no seed identifies a rate.
      rate: tau in steps, or p; geometric mean over the seeds that identify it.
      interval: 95 % confidence interval of the rate.
      advantage: AIC of the power law minus AIC of the exponential, summed over seeds.
      seeds: that identify a rate.
      problems: of the other seeds.
    """

    net: str
    law: str | None
    rate: float | None
    interval: tuple[float, float] | None
    advantage: float
    seeds: int
    problems: list[str]


def shape(law: str, parameters: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the part of ``law`` that falls from 1 at time 0.

    Args:
      law: its name.
      parameters: tau, or p and start, as logarithms, ``[..., parameters]``.
      times: ``[windows]``, in units of the segment as all parameters.
    """
    if law == "exponential":
        return np.exp(-times / np.exp(parameters[..., :1]))
    return (1 + times / np.exp(parameters[..., 1:])) ** -np.exp(parameters[..., :1])


def fit(law: str, times: np.ndarray, losses: np.ndarray, start: np.ndarray) -> Fit:
    """Return ``law`` fitted to ``losses``, both ``[windows]``, from parameters ``start``."""

    def residuals(parameters: np.ndarray) -> np.ndarray:
        predicted = parameters[0] + np.exp(parameters[1]) * shape(law, parameters[2:], times)
        return np.log(np.maximum(predicted, np.finfo(float).tiny)) - np.log(losses)

    low, high = BOUNDS[law]
    bounds = (np.concatenate([[0, -50], low]), np.concatenate([[losses.max()], [50], high]))
    result = optimize.least_squares(
        residuals, np.clip(start, *bounds), bounds=bounds, x_scale="jac", xtol=1e-10, ftol=1e-10, max_nfev=100
    )
    return Fit(result.x, result.fun, result.jac)


def best_of_grid(law: str, times: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Return the parameters of ``law`` that fit best, started from its grid.

    With these given, floor and scale are linear; they minimise the relative residuals.
    """
    shapes = shape(law, GRIDS[law], times) / losses
    ones = 1 / losses
    mixed, squares = shapes @ ones, np.sum(shapes**2, axis=1)
    determinant = np.maximum(squares * (ones @ ones) - mixed**2, np.finfo(float).tiny)
    floors = np.clip((squares * ones.sum() - mixed * shapes.sum(axis=1)) / determinant, 0, losses.max())
    scales = np.maximum((shapes.sum(axis=1) - floors * mixed) / squares, 1e-6 * losses.max())
    misfits = np.sum((floors[:, None] * ones + scales[:, None] * shapes - 1) ** 2, axis=1)
    best = np.argmin(misfits)
    return np.concatenate([[floors[best], np.log(scales[best])], GRIDS[law][best]])


def effective(residuals: np.ndarray) -> float:
    """Return the effective number of ``residuals``, from the correlation of successive ones, if that is above 0."""
    total = np.sum(residuals**2)
    correlation = np.clip(np.sum(residuals[1:] * residuals[:-1]) / total, 0, 0.95) if total else 0.0
    return len(residuals) * (1 - correlation) / (1 + correlation)


def fit_curve(times: np.ndarray, losses: np.ndarray) -> Curve:
    """Return both laws fitted to ``losses``, positive, at ``times`` in units of the segment, each ``[windows]``."""
    if len(losses) < LEAST_WINDOWS:
        return Curve({}, 0.0, f"{len(losses)} windows of the loss are too few, a rate needs {LEAST_WINDOWS}")
    fits = {law: fit(law, times, losses, best_of_grid(law, times, losses)) for law in GRIDS}
    constant = np.log(losses) - np.log(losses).mean()
    points = effective(min((each.residuals for each in fits.values()), key=lambda each: np.sum(each**2)))

    def criterion(residuals: np.ndarray, parameters: int) -> float:
        return points * np.log(max(np.mean(residuals**2), LEAST_VARIANCE)) + 2 * parameters

    criteria = {law: criterion(each.residuals, len(each.parameters) + 1) for law, each in fits.items()}
    advantage = criteria["power law"] - criteria["exponential"]
    better = fits["exponential" if advantage >= 0 else "power law"]
    fitted = better.residuals + np.log(losses)
    fall = 1 - np.exp(fitted[-1] - fitted[0])
    if fall < LEAST_FALL or criterion(constant, 2) < min(criteria.values()) + LEAST_PROGRESS:
        return Curve(fits, advantage, "no progress: rate not identified")
    if fits["exponential"].parameters[2] > 0:  # The logarithm of tau.
        return Curve(fits, advantage, "rate not identified: tau is longer than the segment")
    return Curve(fits, advantage, "")


def decay(net: str, curves: Sequence[tuple[np.ndarray, np.ndarray, float]]) -> Decay:
    """Return how the loss of ``net`` falls.

    Args:
      net: its name.
      curves: of each seed times and losses, each ``[windows]``, and the steps of the segment, the unit of the times.
    """
    found = [fit_curve(times, losses) for times, losses, _ in curves]
    identified = [(each, *curve) for each, curve in zip(found, curves, strict=True) if not each.problem]
    problems = [each.problem for each in found if each.problem]
    advantage = float(sum(each.advantage for each, *_ in identified))
    if not identified:
        return Decay(net, None, None, None, advantage, 0, problems)
    law = "exponential" if advantage > -LEAST_EVIDENCE else "power law"
    # Tau is in units of the segment, p is a number.
    units = np.array([np.log(steps) if law == "exponential" else 0.0 for *_, steps in identified])
    rates = units + [each.fits[law].parameters[2] for each, *_ in identified]
    if len(rates) >= LEAST_SEEDS:
        error, freedom = stats.sem(rates), len(rates) - 1.0
    else:
        fits = [each.fits[law] for each, *_ in identified]
        error = np.sqrt(sum(each.variance for each in fits)) / len(fits)
        freedom = sum(each.freedom for each in fits)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * error
    low, rate, high = np.exp(np.clip(rates.mean() + np.array([-half, 0, half]), -700, 700)).tolist()
    return Decay(net, law, rate, (low, high), advantage, len(rates), problems)
