"""Flags for XLA, of which an unknown one would abort the process."""

import jaxlib.version
import pytest

from resnet_jax import backend


@pytest.fixture
def flags(monkeypatch):
    def after(before, version):
        monkeypatch.setenv("XLA_FLAGS", before)
        monkeypatch.setattr(jaxlib.version, "__version__", version)
        backend.set_xla_flags()
        return backend.os.environ["XLA_FLAGS"]

    return after


def test_the_flag_is_added_behind_the_users_and_once(flags):
    ours = "--xla_cpu_experimental_ynn_fusion_type="
    assert flags("", "0.10.2") == ours
    assert flags("--xla_a=1", "0.10.2") == f"--xla_a=1 {ours}"
    assert flags(f"{ours}-reduce", "0.10.2") == f"{ours}-reduce"
    assert flags(f"--xla_a=1 {ours}", "0.10.2") == f"--xla_a=1 {ours}"


def test_versions_that_may_not_know_the_flag_do_not_get_it(flags):
    assert flags("--xla_a=1", "0.9.0") == "--xla_a=1"
    assert flags("", "99.0") == ""
