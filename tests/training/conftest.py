"""Fixtures of the tests of training."""

import jax
import pytest


@pytest.fixture
def quick_compiling():
    """Compile twice as fast to slower programs; not for runs that are compared with runs of other modules."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
