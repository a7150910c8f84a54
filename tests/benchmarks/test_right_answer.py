"""The check that comes first on a new kind of device must distinguish right from wrong."""

import jax
import pytest

from benchmarks import right_answer


@pytest.mark.slow
def test_a_step_agrees_between_devices_up_to_precision_and_not_with_another_nets(monkeypatch):
    monkeypatch.setattr(right_answer, "DEPTH", 8)  # Compiles in half the time.
    one, other = jax.devices()[:2]
    reference = right_answer.step_of(one, residual=True, dtype="float32")
    with jax.default_matmul_precision("highest"):
        assert right_answer.difference(right_answer.step_of(other, residual=True, dtype="float32"), reference) < 1e-4
    with jax.default_matmul_precision(None):
        narrow = right_answer.difference(right_answer.step_of(other, residual=True, dtype="bfloat16"), reference)
    assert 1e-4 < narrow < 2e-1
    assert right_answer.difference(right_answer.step_of(other, residual=False, dtype="float32"), reference) > 0.5
