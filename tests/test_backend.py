"""Flags for XLA, of which an unknown one would abort the process."""

import jax
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


def test_compiled_programs_are_kept_for_the_user_alone_unless_a_folder_is_given(cache_folder, monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    try:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
        backend.keep_compiled_programs()
        assert not cache_folder.exists()
        assert jax.config.jax_compilation_cache_dir == before
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
        backend.keep_compiled_programs()
        folder = cache_folder / "resnet_jax" / "compiled"
        assert jax.config.jax_compilation_cache_dir == str(folder)
        assert folder.stat().st_mode & 0o077 == 0
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_without_a_place_for_compiled_programs_the_run_goes_on(tmp_path, monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    backend.keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir == before


def test_versions_that_may_not_know_the_flag_do_not_get_it(flags):
    assert flags("--xla_a=1", "0.9.0") == "--xla_a=1"
    assert flags("", "99.0") == ""


@pytest.mark.parametrize("variable", [None, "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_freed_memory_is_kept_unless_the_user_says_how_memory_is_managed(variable, monkeypatch):
    calls = []

    class Library:
        def mallopt(self, parameter, value):
            calls.append((parameter, value))

    monkeypatch.setattr(backend.ctypes, "CDLL", lambda _: Library())
    monkeypatch.setattr(backend.sys, "platform", "linux")
    monkeypatch.setattr(backend.os, "environ", {variable: "1"} if variable else {})
    backend.keep_freed_memory()
    assert calls == ([] if variable else [(-1, 2**31 - 1), (-3, 2**31 - 1)])
    monkeypatch.setattr(backend.ctypes, "CDLL", lambda _: object())  # A C library without mallopt.
    backend.keep_freed_memory()
