"""Fixtures of the tests of training."""

import pytest

from tests.models import nets


@pytest.fixture
def quick_compiling():
    """Compile quickly; not for runs that are compared with runs of other modules."""
    with nets.quick_compiling():
        yield
