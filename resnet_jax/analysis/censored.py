"""Linear model with a random effect per group and censored values: how the logarithm of steps grows with depth.

    y = design @ coefficients + effect of the group + scatter,    effect ~ N(0, between²), scatter ~ N(0, within²)

Values of one group share its effect: the seeds of one depth share what is peculiar to that depth, so that they are not
independent evidence on a law of depth. A run that never reaches the threshold gives only a lower bound on its steps; to
leave it out would lose the slowest runs and flatten the growth. Such a censored value contributes the probability of
lying beyond its limit (Tobin 1958, "Estimation of relationships for limited dependent variables").

Given the exact values of a group its effect is normal, in closed form. Over this distribution the product of the
probabilities of its censored values is integrated by Gauss-Legendre quadrature, on panels that are as narrow as the
within-group scatter where a probability changes from 0 to 1.
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

CONFIDENCE = 0.95
# Least standard deviations of the logarithm of steps, which are not known better than this share; and the largest.
DEVIATIONS = (1e-3, 1e2)
# Kinds of values: known, or a limit that the true value is above or below.
EXACT, ABOVE, BELOW = 0, 1, -1
# Edges of the panels of the quadrature. In standard deviations of the effect: round its mean, and round a limit, for
# limits in its tails; in standard deviations of the scatter, round a limit. Then the nodes of each panel.
EFFECT_PANELS, TAIL_PANELS = np.linspace(-9, 9, 19), np.array([-1.0, -0.3, -0.1, -0.03, 0.03, 0.1, 0.3, 1.0])
LIMIT_PANELS = np.linspace(-6, 6, 7)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)
# SLSQP, because scipy's L-BFGS-B waits for the threads of BLAS, which takes ten times as long.
OPTIONS = {"ftol": 1e-10, "maxiter": 500}


class Data(NamedTuple):
    """Values to fit.

    Attributes:
      design: ``[values, coefficients]``.
      y: values or limits, ``[values]``.
      sides: ``EXACT``, ``ABOVE`` or ``BELOW``, ``[values]``; at least one is exact.
      groups: numbers from 0 of the groups, ``[values]``.
    """

    design: np.ndarray
    y: np.ndarray
    sides: np.ndarray
    groups: np.ndarray


class Fit(NamedTuple):
    """Maximum-likelihood fit.

    Attributes:
      coefficients: ``[coefficients]``.
      between: standard deviation of the groups' effects.
      within: standard deviation of values of one group.
      log_likelihood: of all values.
    """

    coefficients: np.ndarray
    between: float
    within: float
    log_likelihood: float

    @property
    def aic(self) -> float:
        """Akaike's criterion; both standard deviations count as parameters."""
        return 2 * (len(self.coefficients) + 2) - 2 * self.log_likelihood


def log_likelihood(data: Data, coefficients: np.ndarray, between: float, within: float) -> tuple[float, np.ndarray]:
    """Return the log-likelihood of ``data`` and its gradient.

    ``between`` and ``within`` are above 0. The gradient is by the coefficients and the logarithms of these two; by
    Fisher's identity it is the mean gradient of the log-likelihood given the effects, over their distribution given the
    data.
    """
    residuals = data.y - data.design @ coefficients
    exact = data.sides == EXACT
    groups, size = data.groups[exact], data.groups.max() + 1
    counts = np.bincount(groups, minlength=size)
    # Mean and variance of each group's effect, given its exact values.
    variances = 1 / (1 / between**2 + counts / within**2)
    means = variances * np.bincount(groups, residuals[exact], size) / within**2
    value = -(np.sum(residuals[exact] ** 2) / within**2 + len(groups) * np.log(2 * np.pi * within**2)) / 2
    value += np.sum(means**2 / variances + np.log(variances / between**2)) / 2
    squares = means**2 + variances
    slopes, by_within = np.zeros(len(data.y)), 0.0  # Derivatives by each fitted value, and by log within.
    for group in np.unique(data.groups[~exact]):
        chosen = ~exact & (data.groups == group)
        spread = np.sqrt(variances[group])
        limits, sides = (residuals[chosen] - means[group]) / spread, data.sides[chosen]
        logarithm, nodes, weights = beyond(limits, sides, within / spread)
        value += logarithm
        effects = means[group] + spread * nodes
        outward = sides * (effects[:, None] - residuals[chosen]) / within
        mills = np.exp(-(outward**2) / 2 - special.log_ndtr(outward)) / np.sqrt(2 * np.pi)
        slopes[chosen] = weights @ mills * sides / within
        by_within -= float(np.sum(weights @ (mills * outward)))
        means[group], squares[group] = weights @ effects, weights @ effects**2
    slopes[exact] = (residuals[exact] - means[groups]) / within**2
    scatter = residuals[exact] ** 2 - 2 * residuals[exact] * means[groups] + squares[groups]
    by_within += float(np.sum(scatter / within**2 - 1))
    by_between = float(np.sum(squares / between**2 - 1))
    return float(value), np.array([*(data.design.T @ slopes), by_between, by_within])


def beyond(limits: np.ndarray, sides: np.ndarray, within: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the log-probability that all values of a group lie beyond their ``limits``, and the effect given that.

    The effect of the group is standard normal, the values scatter about it with standard deviation ``within``. Its
    distribution given that they lie beyond is returned as nodes and weights, each ``[nodes]``.

    Args:
      limits: ``[values]``.
      sides: ``[values]``, none of them exact.
      within: standard deviation.
    """
    round_limits = np.unique(limits)[:, None] + np.concatenate([within * LIMIT_PANELS, TAIL_PANELS])
    edges = np.sort(np.concatenate([EFFECT_PANELS, np.ravel(round_limits)]))
    half = np.diff(edges)[:, None] / 2
    nodes = np.ravel(edges[:-1, None] + half * (1 + NODES))
    densities = special.log_ndtr(sides * (nodes[:, None] - limits) / within).sum(axis=1) - nodes**2 / 2
    highest = densities.max()
    weights = np.ravel(half * WEIGHTS) * np.exp(densities - highest)
    total = weights.sum()
    return float(highest + np.log(total / np.sqrt(2 * np.pi))), nodes, weights / total


def fit(data: Data) -> Fit:
    """Return the maximum-likelihood fit of ``data``.

    The likelihood may have two maxima, one with most of the variance between groups, one within; both are searched.
    """
    # In an orthogonal basis the search does not depend on units, nor on how alike the columns are.
    basis, triangle = np.linalg.qr(data.design)
    scale = np.sqrt(len(data.y))
    rotated = data._replace(design=basis * scale)
    start = basis.T @ data.y / scale
    misfit = max(float(np.std(data.y - rotated.design @ start)), 10 * DEVIATIONS[0])

    def negative(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = log_likelihood(rotated, parameters[:-2], *np.exp(parameters[-2:]))
        return -value, -gradient

    bounds = [(None, None)] * len(start) + [tuple(np.log(DEVIATIONS))] * 2
    found = [
        optimize.minimize(negative, [*start, *np.log(pair)], method="SLSQP", jac=True, bounds=bounds, options=OPTIONS)
        for pair in ((misfit, misfit / 5), (misfit / 5, misfit))
    ]
    best = min(found, key=lambda result: result.fun)
    between, within = np.exp(best.x[-2:]).tolist()
    return Fit(np.linalg.solve(triangle, best.x[:-2] * scale), between, within, -float(best.fun))


def interval(data: Data, best: Fit, column: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a coefficient: the values that ``p_value`` does not reject at 5 %.

    An end is infinite if the likelihood does not fall so far on its side.

    Args:
      data: what was fitted.
      best: its fit.
      column: of the design.
    """
    others = np.delete(data.design, column, axis=1)
    values = data.design[:, column]

    def excess(coefficient: float) -> float:
        rest = Data(others, data.y - coefficient * values, data.sides, data.groups)
        return 1 - CONFIDENCE - p_value(data, best, fit(rest))

    centre = float(best.coefficients[column])
    # Only the search uses this rough standard error.
    error = np.sqrt((best.between**2 + best.within**2) / len(np.unique(data.groups))) / np.std(values)
    ends = []
    for direction in (-1, 1):
        distances = direction * error * np.array([0, *(2.5 * 2.0 ** np.arange(10))])
        outer = next((n for n in range(1, len(distances)) if excess(centre + distances[n]) > 0), None)
        if outer is None:
            ends.append(direction * np.inf)
        else:
            inside, outside = centre + distances[outer - 1], centre + distances[outer]
            ends.append(optimize.brentq(excess, inside, outside, xtol=1e-2 * error))
    return float(ends[0]), float(ends[1])


def p_value(data: Data, best: Fit, restricted: Fit) -> float:
    """Return the p-value of a fit in which one coefficient of ``best``, the fit of ``data``, is given.

    Groups are the unit of replication: however many values a group has, its effect remains. If no value is censored and
    all groups are equally large, the likelihood ratio of this model equals the ratio for least squares on the means of
    the G groups, G log(1 + t² / (G - p)) for p coefficients, unless the effects are estimated as 0; and t follows
    Student's distribution with G - p degrees of freedom. The same relation gives t here. Chi-squared, which holds for
    many groups, would reject too often with five. G counts the groups with an exact value, because limits only bound
    the others.
    """
    groups = len(np.unique(data.groups[data.sides == EXACT]))
    free = max(groups - data.design.shape[1], 1)
    ratio = max(2 * (best.log_likelihood - restricted.log_likelihood), 0.0)
    return float(2 * stats.t.sf(np.sqrt(free * np.expm1(min(ratio / groups, 700))), free))
