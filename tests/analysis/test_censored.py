"""A line through censored values, against closed forms, scipy and simulation."""

import numpy as np
import pytest
from scipy import integrate, stats

from resnet_jax.analysis.censored import ABOVE, BELOW, EXACT, fit, slope_interval

DEPTHS = np.repeat([8.0, 14, 20, 26, 32, 38, 44, 56], 3)
SLOPE, INTERCEPT = 0.05, 5.0


def values(scatter, seed=0, x=DEPTHS):
    return INTERCEPT + SLOPE * x + np.random.default_rng(seed).normal(0, scatter, len(x))


def censor(y, limit):
    """Return ``y`` and its sides with values above ``limit`` censored."""
    return np.minimum(y, limit), np.where(y > limit, ABOVE, EXACT)


def test_without_censored_values_line_and_interval_are_those_of_least_squares():
    y = values(0.2)
    line = fit(DEPTHS, y, np.full(len(y), EXACT))
    low, high = slope_interval(DEPTHS, y, np.full(len(y), EXACT))
    squares = stats.linregress(DEPTHS, y)
    half = stats.t.ppf(0.975, len(y) - 2) * squares.stderr
    assert line.slope == pytest.approx(squares.slope, rel=1e-6)
    assert line.intercept == pytest.approx(squares.intercept, rel=1e-6)
    np.testing.assert_allclose([low, high], [squares.slope - half, squares.slope + half], rtol=1e-3)


@pytest.mark.parametrize("limit", [np.inf, INTERCEPT + SLOPE * 30])
def test_values_without_noise_give_the_slope_whether_or_not_half_are_censored(limit):
    y, sides = censor(values(0.0), limit)
    assert fit(DEPTHS, y, sides).slope == pytest.approx(SLOPE, abs=1e-3)


def test_the_likelihood_is_the_integral_over_what_is_censored():
    y, sides = censor(values(0.3), 6.5)
    y[0], sides[0] = 5.6, BELOW
    line = fit(DEPTHS, y, sides)
    expected = 0.0
    for x, value, side in zip(DEPTHS, y, sides, strict=True):
        density = stats.norm(line.intercept + line.slope * x, line.scatter).pdf
        bounds = {ABOVE: (value, value + 10), BELOW: (value - 10, value)}.get(side)
        expected += np.log(integrate.quad(density, *bounds)[0] if bounds else density(value))
    assert line.log_likelihood == pytest.approx(expected, abs=1e-3)


def test_half_of_the_depths_censored_still_recover_the_slope_but_without_them_it_is_biased():
    slopes, without, held = [], [], 0
    for seed in range(100):
        y, sides = censor(values(0.3, seed), INTERCEPT + SLOPE * 30)
        slopes.append(fit(DEPTHS, y, sides).slope)
        without.append(np.polyfit(DEPTHS[sides == EXACT], y[sides == EXACT], 1)[0])
        if seed < 40:
            low, high = slope_interval(DEPTHS, y, sides)
            held += low <= SLOPE <= high
    assert np.mean(slopes) == pytest.approx(SLOPE, rel=0.05)
    assert np.mean(without) < 0.85 * SLOPE
    assert held >= 34


def test_a_slope_that_the_values_do_not_bound_has_an_infinite_interval():
    # All are censored but those of one depth: how much steeper the line is, nothing says.
    y, sides = censor(values(0.05), INTERCEPT + SLOPE * 8 + 0.2)
    assert set(DEPTHS[sides == EXACT]) == {8.0}
    assert slope_interval(DEPTHS, y, sides)[1] > 1
