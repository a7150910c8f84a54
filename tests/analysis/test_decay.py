"""How the loss of a net falls: known laws are found again, and a plateau has no rate."""

import numpy as np
import pytest

from resnet_jax.analysis.decay import LEAST_WINDOWS, decay, effective, fit_curve

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
    found = [decay("net", [(TIMES, noisy(curve, seed), 1.0)]) for seed in range(30)]
    assert sum(each.law == law for each in found) >= 27


def test_a_plateau_returns_no_rate():
    for seed in range(20):
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
