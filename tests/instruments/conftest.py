import jax
import pytest


@pytest.fixture(scope="module")
def eager():
    """Compute without compiling: for nets this small compiling takes longer than evaluating."""
    with jax.disable_jit():
        yield
