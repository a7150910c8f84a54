import jax
import pytest


@pytest.fixture
def eager_float64():
    """Compute in float64 and without compiling: for nets this small compiling takes longer than evaluating."""
    with jax.enable_x64(True), jax.disable_jit():
        yield
