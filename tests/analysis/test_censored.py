"""The model with a random effect and censored values, against closed forms, adaptive integration and simulation."""

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from resnet_jax.analysis.censored import ABOVE, BELOW, EXACT, Data, fit, interval, log_likelihood, p_value

DEPTHS = np.array([8.0, 14, 20, 26, 32, 38, 44, 56])
SEEDS = 3
COEFFICIENTS = np.array([5.0, 0.05])


def values(between, within, seed=0, limit=np.inf):
    """Return values of eight groups of three, censored above ``limit``."""
    random = np.random.default_rng(seed)
    x, groups = np.repeat(DEPTHS, SEEDS), np.repeat(np.arange(len(DEPTHS)), SEEDS)
    y = np.column_stack([np.ones(len(x)), x]) @ COEFFICIENTS
    y += random.normal(0, between, len(DEPTHS))[groups] + random.normal(0, within, len(x))
    sides = np.where(y > limit, ABOVE, EXACT)
    return Data(np.column_stack([np.ones(len(x)), x]), np.minimum(y, limit), sides, groups)


def closed_form(data, coefficients, between, within):
    """Return the log-likelihood of exact values, multivariate normal in each group."""
    total = 0.0
    for group in np.unique(data.groups):
        residuals = (data.y - data.design @ coefficients)[data.groups == group]
        covariance = between**2 + within**2 * np.eye(len(residuals))
        total += stats.multivariate_normal(cov=covariance).logpdf(residuals)
    return total


def integrated(data, coefficients, between, within):
    """Return the log-likelihood by adaptive integration over each group's effect."""
    residuals = data.y - data.design @ coefficients
    total = 0.0
    for group in np.unique(data.groups):
        chosen = data.groups == group
        each, sides = residuals[chosen], data.sides[chosen]

        def density(effect, each=each, sides=sides):
            exact = stats.norm.pdf(each, effect, within)
            beyond = stats.norm.cdf(np.where(sides == ABOVE, effect - each, each - effect) / within)
            return stats.norm.pdf(effect, 0, between) * np.prod(np.where(sides == EXACT, exact, beyond))

        places = np.unique(np.round([*each, *(each - 4 * within), *(each + 4 * within), -between, 0, between], 6))
        total += np.log(integrate.quad(density, -4, 4, points=places, limit=1000, epsabs=1e-13)[0])
    return total


@pytest.mark.parametrize(("between", "within"), [(0.3, 0.1), (0.01, 0.5), (0.8, 0.02)])
def test_without_censored_values_the_likelihood_is_multivariate_normal(between, within):
    data = values(0.3, 0.1)
    found, _ = log_likelihood(data, COEFFICIENTS, between, within)
    assert found == pytest.approx(closed_form(data, COEFFICIENTS, between, within), rel=1e-9)


@pytest.mark.parametrize(("between", "within"), [(0.3, 0.1), (0.05, 0.3), (0.4, 0.01)])
def test_censored_values_contribute_the_integral_over_the_effect_of_their_group(between, within):
    # Groups whose values are all exact, exact and censored on either side, and all censored.
    data = values(0.3, 0.1, limit=7.0)
    data.sides[:2] = BELOW
    kinds = {tuple(sorted(set(data.sides[data.groups == group]))) for group in range(len(DEPTHS))}
    assert {(EXACT,), (BELOW, EXACT), (ABOVE,)} <= kinds
    found, _ = log_likelihood(data, COEFFICIENTS, between, within)
    assert found == pytest.approx(integrated(data, COEFFICIENTS, between, within), abs=1e-3)


@pytest.mark.parametrize(("between", "within"), [(0.3, 0.1), (0.02, 0.3)])
def test_the_gradient_is_the_limit_of_differences(between, within):
    data = values(0.3, 0.1, limit=7.0)
    data.sides[0] = BELOW
    start = np.array([5.1, 0.048, np.log(between), np.log(within)])

    def value(parameters):
        return log_likelihood(data, parameters[:2], *np.exp(parameters[2:]))[0]

    gradient = log_likelihood(data, start[:2], between, within)[1]
    steps = 1e-5 * np.eye(4)
    expected = [(value(start + step) - value(start - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-4)


def test_without_censored_values_the_fit_is_the_one_found_by_another_search():
    data = values(0.3, 0.1)
    data = Data(*(np.delete(each, [4, 10, 11], axis=0) for each in data))  # Groups of different sizes.
    found = fit(data)
    other = optimize.minimize(
        lambda parameters: -closed_form(data, parameters[:2], *np.exp(parameters[2:])),
        [5, 0.05, -1, -2],
        method="Nelder-Mead",
        options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 2000},
    )
    assert found.log_likelihood == pytest.approx(-other.fun, abs=1e-5)
    np.testing.assert_allclose(found.coefficients, other.x[:2], rtol=1e-3)
    np.testing.assert_allclose([found.between, found.within], np.exp(other.x[2:]), rtol=1e-2)
    assert found.aic == pytest.approx(2 * 4 + 2 * other.fun, abs=1e-4)


def test_without_censored_values_line_and_interval_are_least_squares_on_the_means_of_groups():
    data = values(0.3, 0.1)
    found = fit(data)
    assert found.between > 0.1
    line = stats.linregress(DEPTHS, data.y.reshape(-1, SEEDS).mean(axis=1))
    half = stats.t.ppf(0.975, len(DEPTHS) - 2) * line.stderr
    np.testing.assert_allclose(found.coefficients, [line.intercept, line.slope], rtol=1e-4)
    np.testing.assert_allclose(interval(data, found, 1), [line.slope - half, line.slope + half], rtol=5e-3)
    flat = fit(data._replace(design=data.design[:, :1]))
    assert p_value(data, found, flat) == pytest.approx(line.pvalue, rel=1e-2)


@pytest.mark.parametrize("limit", [np.inf, 6.5])
def test_values_without_noise_give_the_slope_whether_or_not_half_are_censored(limit):
    found = fit(values(0.0, 0.0, limit=limit))
    assert found.coefficients[1] == pytest.approx(COEFFICIENTS[1], abs=1e-3)


def test_half_of_the_groups_censored_still_recover_the_slope_but_without_them_it_is_biased():
    slopes, without = [], []
    for seed in range(20):
        data = values(0.15, 0.15, seed, limit=6.5)
        slopes.append(fit(data).coefficients[1])
        exact = data.sides == EXACT
        without.append(np.polyfit(data.design[exact, 1], data.y[exact], 1)[0])
    assert np.mean(slopes) == pytest.approx(COEFFICIENTS[1], rel=0.06)
    assert np.mean(without) < 0.9 * COEFFICIENTS[1]


def test_the_interval_holds_although_seeds_of_a_group_share_its_effect():
    held = narrow = 0
    for seed in range(30):
        data = values(0.3, 0.05, seed)
        low, high = interval(data, fit(data), 1)
        held += low <= COEFFICIENTS[1] <= high
        line = stats.linregress(data.design[:, 1], data.y)  # As if seeds were independent.
        narrow += abs(line.slope - COEFFICIENTS[1]) <= stats.t.ppf(0.975, len(data.y) - 2) * line.stderr
    assert held >= 27
    assert narrow < 25


def test_a_slope_that_the_values_do_not_bound_has_an_infinite_interval():
    # All are censored except one group: nothing shows how much steeper the line is.
    data = Data(*(each[: 4 * SEEDS] for each in values(0.02, 0.02, limit=COEFFICIENTS @ [1, 8] + 0.2)))
    assert set(data.design[data.sides == EXACT, 1]) == {8.0}
    low, high = interval(data, fit(data), 1)
    assert 0 < low < COEFFICIENTS[1] < high == np.inf
