"""A line through censored values: how the logarithm of the steps to a threshold grows with depth.

A run that has not reached the threshold says that its steps are more than those it made; to leave it out would lose
the slowest runs and flatten the line. The model is normal, y = intercept + slope x + scatter e, and a censored value
contributes the probability of lying beyond its limit (Tobin 1958, "Estimation of relationships for limited dependent
variables"). In slope / scatter and 1 / scatter the likelihood is concave (Olsen 1978, "Note on the uniqueness of the
maximum likelihood estimator for the Tobit model"), so that there is one maximum.
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

CONFIDENCE = 0.95
# Of the logarithm of the steps; steps are not known better than this share.
LEAST_SCATTER = 1e-3
# What a value is: known, or a limit that the true one is above or below.
EXACT, ABOVE, BELOW = 0, 1, -1


class Line(NamedTuple):
    """A fitted line.

    Attributes:
      intercept: at x = 0.
      slope: of y over x.
      scatter: standard deviation of y about the line.
      log_likelihood: of all values.
    """

    intercept: float
    slope: float
    scatter: float
    log_likelihood: float


def maximise(design: np.ndarray, y: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return coefficients, scatter and log-likelihood of the likeliest ``y = design @ coefficients + scatter e``.

    Args:
      design: ``[values, coefficients]``, in units of about 1.
      y: ``[values]``.
      sides: ``EXACT``, ``ABOVE`` or ``BELOW`` of each value, at least one of them exact.
    """
    residual_of = np.column_stack([-design, y])  # Of the coefficients over the scatter, and of 1 / scatter.
    exact, limits = sides == EXACT, sides != EXACT
    count = exact.sum()

    def value(parameters: np.ndarray) -> float:
        if parameters[-1] <= 0:
            return np.inf
        residuals = residual_of @ parameters
        squares = np.sum(residuals[exact] ** 2) + count * (LEAST_SCATTER * parameters[-1]) ** 2
        beyond = special.log_ndtr(-sides[limits] * residuals[limits]).sum()
        return squares / 2 - count * np.log(parameters[-1] / np.sqrt(2 * np.pi)) - beyond

    def derivatives(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        residuals = residual_of @ parameters
        outward = -sides * residuals
        mills = np.exp(stats.norm.logpdf(outward) - special.log_ndtr(outward))
        first = np.where(exact, residuals, sides * mills) @ residual_of
        second = (residual_of.T * np.where(exact, 1.0, mills * (mills + outward))) @ residual_of
        first[-1] += count * (LEAST_SCATTER**2 * parameters[-1] - 1 / parameters[-1])
        second[-1, -1] += count * (LEAST_SCATTER**2 + 1 / parameters[-1] ** 2)
        return first, second

    coefficients = np.linalg.lstsq(design, y, rcond=None)[0]
    inverse = 1 / max(np.std(y - design @ coefficients), LEAST_SCATTER)
    result = optimize.minimize(
        value,
        np.append(coefficients * inverse, inverse),
        jac=lambda parameters: derivatives(parameters)[0],
        hess=lambda parameters: derivatives(parameters)[1],
        method="trust-exact",
        options={"initial_trust_radius": 10.0, "max_trust_radius": 1e6, "gtol": 1e-6},
    )
    return result.x[:-1] / result.x[-1], float(1 / result.x[-1]), -float(result.fun)


def fit(x: np.ndarray, y: np.ndarray, sides: np.ndarray) -> Line:
    """Return the likeliest line; the arguments are those of ``maximise`` with ``x``, ``[values]``, of any unit."""
    centre, spread = x.mean(), x.std()
    level = y.mean()
    design = np.column_stack([np.ones(len(x)), (x - centre) / spread])
    (height, slope), scatter, log_likelihood = maximise(design, y - level, sides)
    return Line(float(level + height - slope * centre / spread), float(slope / spread), scatter, log_likelihood)


def slope_interval(x: np.ndarray, y: np.ndarray, sides: np.ndarray) -> tuple[float, float]:
    """Return the 95 % confidence interval of the slope, by the profile of the likelihood.

    It is cut where, without censored values, the interval is that of Student's t for least squares. A side on which the
    likelihood does not fall so far is infinite.
    """
    best = fit(x, y, sides)
    count = np.sum(sides == EXACT)
    free = max(count - 2, 1)
    cut = count / 2 * np.log1p(stats.t.ppf((1 + CONFIDENCE) / 2, free) ** 2 / free)

    def excess(slope: float) -> float:
        rest = y - slope * x
        level = rest.mean()
        return best.log_likelihood - maximise(np.ones((len(x), 1)), rest - level, sides)[2] - cut

    error = best.scatter / (x.std() * np.sqrt(count))  # Of the slope, about, which only the search uses.
    bounds = []
    for direction in (-1, 1):
        distances = direction * error * np.array([0, *(2.5 * 2.0 ** np.arange(20))])
        outer = next((n for n in range(1, len(distances)) if excess(best.slope + distances[n]) > 0), None)
        if outer is None:
            bounds.append(direction * np.inf)
        else:
            inner, outside = best.slope + distances[outer - 1], best.slope + distances[outer]
            bounds.append(optimize.brentq(excess, inner, outside, xtol=1e-3 * error))
    return float(bounds[0]), float(bounds[1])
