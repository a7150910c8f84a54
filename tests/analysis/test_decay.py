"""How the loss of a net falls: known laws are found again, and a plateau has no rate."""

import numpy as np
import pytest
from scipy import optimize, stats

from resnet_jax.analysis.decay import GRIDS, LEAST_WINDOWS, Fit, best_of_grid, decay, effective, fit, fit_curve, shape

TIMES = (np.arange(80) + 0.5) / 80


def noisy(curve, seed=0, scatter=0.03, correlation=0.0):
    noise = np.random.default_rng(seed).normal(0, scatter * np.sqrt(1 - correlation**2), len(curve))
    for index in range(1, len(noise)):
        noise[index] += correlation * noise[index - 1]
    return curve * np.exp(noise)


@pytest.mark.parametrize("floor", [0.0, 0.3])
@pytest.mark.parametrize("tau", [0.05, 0.3])
def test_an_exponential_without_noise_gives_its_tau(floor, tau):
    found = decay("net", [(TIMES, floor + 2 * np.exp(-TIMES / tau), 1000.0)])
    assert found.law == "exponential"
    assert found.rate == pytest.approx(1000 * tau, rel=1e-3)


@pytest.mark.parametrize("power", [0.5, 2.0])
def test_a_power_law_without_noise_gives_its_power(power):
    found = decay("net", [(TIMES, 0.01 + 2 * (1 + TIMES / 0.02) ** -power, 1000.0)])
    assert found.law == "power law"
    assert found.rate == pytest.approx(power, rel=1e-2)


@pytest.mark.parametrize("seeds", [1, 3])
def test_with_noise_the_interval_is_about_the_rate(seeds):
    curve = 0.1 + 2 * np.exp(-TIMES / 0.2)
    found = decay("net", [(TIMES, noisy(curve, seed, correlation=0.5), 1000.0) for seed in range(seeds)])
    low, high = found.interval
    assert (found.law, found.seeds) == ("exponential", seeds)
    assert low < 200 < high
    assert high / low < 1.5


@pytest.mark.parametrize(
    ("law", "curve"),
    [("exponential", 0.1 + 2 * np.exp(-TIMES / 0.1)), ("power law", 0.02 + 2 * (1 + TIMES / 0.05) ** -0.8)],
)
def test_the_law_is_found_although_noise_brings_losses_below_the_floor(law, curve):
    found = [decay("net", [(TIMES, noisy(curve, seed), 1.0)]) for seed in range(15)]
    assert sum(each.law == law for each in found) >= 13


def test_a_plateau_returns_no_rate():
    for seed in range(10):
        found = decay("net", [(TIMES, noisy(np.full(80, 2.3), seed, correlation=0.5), 1000.0)])
        assert (found.law, found.rate, found.interval) == (None, None, None)
        assert found.problems == ["no progress: rate not identified"]


def test_a_loss_that_falls_slower_than_the_segment_lasts_has_no_rate():
    found = decay("net", [(TIMES, 2 * np.exp(-TIMES / 5), 1000.0)])
    assert found.problems == ["rate not identified: tau is longer than the segment"]


def test_seeds_without_progress_are_counted_and_the_others_give_the_rate():
    curve = 0.1 + 2 * np.exp(-TIMES / 0.2)
    found = decay("net", [(TIMES, noisy(curve), 1000.0), (TIMES, noisy(np.full(80, 2.3), 1), 1000.0)])
    assert (found.seeds, found.problems) == (1, ["no progress: rate not identified"])


def test_too_few_windows_are_refused():
    few = LEAST_WINDOWS - 1
    found = fit_curve(TIMES[:few], np.exp(-TIMES[:few]))
    assert found.problem == f"{few} windows of the loss are too few, a rate needs {LEAST_WINDOWS}"


def test_residuals_that_are_alike_count_as_fewer():
    random = np.random.default_rng(0)
    independent = random.normal(size=4000)
    alike = noisy(np.ones(4000), scatter=1.0, correlation=0.6)
    assert effective(independent) == pytest.approx(4000, rel=0.1)
    assert effective(np.log(alike)) == pytest.approx(4000 * 0.4 / 1.6, rel=0.15)
    assert effective(np.zeros(10)) == 10


@pytest.mark.parametrize(
    ("law", "parameters", "expected"),
    [
        ("exponential", [0.25], np.exp(-TIMES / 0.25)),
        ("power law", [1.5, 0.1], (1 + TIMES / 0.1) ** -1.5),
    ],
)
def test_a_law_falls_from_one_by_its_formula(law, parameters, expected):
    found = shape(law, np.log(np.array([parameters, parameters])), np.append(0, TIMES))
    np.testing.assert_allclose(found, [np.append(1, expected)] * 2, rtol=1e-12)


@pytest.mark.parametrize("law", GRIDS)
def test_the_start_of_a_fit_is_the_place_of_the_grid_with_the_least_relative_misfit(law):
    losses = noisy(0.3 + 1.7 * np.exp(-TIMES / 0.1))
    found = best_of_grid(law, TIMES, losses)

    def misfit(place):
        columns = np.column_stack([np.ones(len(TIMES)), shape(law, place, TIMES)]) / losses[:, None]
        return optimize.nnls(columns, np.ones(len(losses)))[1]

    misfits = [misfit(place) for place in GRIDS[law]]
    best = GRIDS[law][np.argmin(misfits)]
    np.testing.assert_array_equal(found[2:], best)
    predicted = found[0] + np.exp(found[1]) * shape(law, best, TIMES)
    assert np.linalg.norm(predicted / losses - 1) == pytest.approx(min(misfits), rel=1e-6)


def test_a_fit_is_the_least_squares_of_logarithms_found_by_another_search():
    losses = noisy(0.3 + 1.7 * np.exp(-TIMES / 0.1))
    found = fit("exponential", TIMES, losses, best_of_grid("exponential", TIMES, losses))

    def residuals(parameters):
        floor, scale, tau = parameters
        return np.log(floor + scale * np.exp(-TIMES / tau)) - np.log(losses)

    other = optimize.least_squares(residuals, [0.3, 1.7, 0.1], method="lm", xtol=1e-12)
    floor, scale, tau = found.parameters[0], *np.exp(found.parameters[1:])
    np.testing.assert_allclose([floor, scale, tau], other.x, rtol=1e-4)
    np.testing.assert_allclose(found.residuals, other.fun, atol=1e-6)
    # Of the logarithm of tau: the covariance of tau over tau squared, with the effective number of residuals.
    covariance = np.linalg.inv(other.jac.T @ other.jac) * np.sum(other.fun**2) / found.freedom
    assert found.variance == pytest.approx(covariance[2, 2] / tau**2, rel=1e-2)
    assert found.freedom == pytest.approx(effective(other.fun) - 3, rel=1e-3)


def test_residuals_that_are_all_alike_leave_at_least_one_degree_of_freedom():
    assert Fit(np.zeros(3), np.ones(20), np.ones((20, 3))).freedom == 1.0


def test_three_seeds_give_the_geometric_mean_and_the_interval_of_students_distribution():
    taus = (0.1, 0.2, 0.15)
    curves = [(TIMES, 0.2 + 2 * np.exp(-TIMES / tau), 1000.0 * (1 + place)) for place, tau in enumerate(taus)]
    found = decay("net", curves)
    logarithms = np.log([1000 * (1 + place) * tau for place, tau in enumerate(taus)])  # In steps.
    assert found.rate == pytest.approx(stats.gmean(np.exp(logarithms)), rel=1e-3)
    expected = stats.t.interval(0.95, 2, logarithms.mean(), stats.sem(logarithms))
    np.testing.assert_allclose(found.interval, np.exp(expected), rtol=1e-2)
    assert (found.seeds, found.problems) == (3, [])


def test_two_seeds_have_the_interval_of_their_fits():
    curves = [(TIMES, noisy(0.2 + 2 * np.exp(-TIMES / 0.1), seed), 1000.0) for seed in range(2)]
    found = decay("net", curves)
    fits = [fit_curve(times, losses).fits["exponential"] for times, losses, _ in curves]
    error = np.sqrt(sum(each.variance for each in fits)) / 2
    half = stats.t.ppf(0.975, sum(each.freedom for each in fits)) * error
    middle = np.mean([each.parameters[2] for each in fits])
    np.testing.assert_allclose(found.interval, 1000 * np.exp([middle - half, middle + half]))


def test_the_advantage_is_the_excess_of_the_power_laws_criterion_summed_over_seeds():
    exponential, power = 0.1 + 2 * np.exp(-TIMES / 0.1), 0.02 + 2 * (1 + TIMES / 0.05) ** -0.8
    found = fit_curve(TIMES, noisy(exponential))
    squares = {law: np.mean(each.residuals**2) for law, each in found.fits.items()}
    # Three and four parameters and the variance; the better fit gives the effective number of points.
    points = effective(found.fits[min(squares, key=squares.get)].residuals)
    criteria = {law: points * np.log(squares[law]) + 2 * count for law, count in (("exponential", 4), ("power law", 5))}
    assert found.advantage == pytest.approx(criteria["power law"] - criteria["exponential"])
    assert found.advantage > 0 > fit_curve(TIMES, noisy(power)).advantage
    both = [(TIMES, noisy(exponential, seed), 1.0) for seed in range(2)]
    assert decay("net", both).advantage == pytest.approx(sum(fit_curve(*each[:2]).advantage for each in both))


def test_a_net_without_curves_has_no_rate():
    assert decay("net", []) == ("net", None, None, None, 0.0, 0, [])
