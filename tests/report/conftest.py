"""Runs with measurements, read once for all tests that only look at them."""

import pytest

from resnet_jax.analysis.diagnosed import read_diagnosed
from resnet_jax.report import why
from tests.analysis.measured import measure
from tests.analysis.synthetic import nets_in, write_run


@pytest.fixture(scope="session")
def measured_folder(tmp_path_factory):
    """Plain and residual nets of two depths, three seeds each, all measured."""
    folder = tmp_path_factory.mktemp("runs")
    for residual in (False, True):
        for depth in (20, 56):
            for seed in range(3):
                run = folder / f"{'residual' if residual else 'plain'}-{depth}-seed{seed}"
                write_run(run, depth, residual, 0.1 if residual else 0.5, seed)
                measure(run, residual, depth, seed, size=(2 if residual else 10) + depth / 100)
    return folder


@pytest.fixture(scope="session")
def measured_nets(measured_folder):
    """Each seed of these nets with its measurements."""
    return read_diagnosed([measured_folder], nets_in(measured_folder))[0]


@pytest.fixture(scope="session")
def inside(measured_folder, measured_nets):
    """What these nets look like inside."""
    return why.page(measured_nets, nets_in(measured_folder))
