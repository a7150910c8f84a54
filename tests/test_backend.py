"""Flags for XLA; an unknown one would abort the process."""

import os

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


@pytest.fixture
def kept(monkeypatch):
    """Return a function that returns where compiled programs are kept if the user gives a folder, or None."""
    before = jax.config.jax_compilation_cache_dir

    def kept(given=None):
        if given is None:
            monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        else:
            monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(given))
        jax.config.update("jax_compilation_cache_dir", given and str(given))  # As JAX does when it is imported.
        backend.keep_compiled_programs()
        return jax.config.jax_compilation_cache_dir

    yield kept
    jax.config.update("jax_compilation_cache_dir", before)


def test_compiled_programs_are_kept_for_the_user_alone_or_in_the_folder_given(cache_folder, kept, tmp_path):
    assert kept(tmp_path / "given") == str(tmp_path / "given")
    assert kept("gs://bucket/given") == "gs://bucket/given"
    assert not cache_folder.exists()
    assert kept() == str(cache_folder / "resnet_jax" / "compiled")


def test_no_umask_lets_others_write_to_a_cache(cache_folder, kept, tmp_path):
    before = os.umask(0)
    try:
        kept()
        kept(tmp_path / "a" / "given")
    finally:
        os.umask(before)
    made = [cache_folder, *cache_folder.rglob("*"), tmp_path / "a", tmp_path / "a" / "given"]
    assert [folder.stat().st_mode & 0o777 for folder in made] == [0o700] * 5


@pytest.mark.parametrize("part", [".", "compiled"])
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_cache_that_others_may_write_to_is_not_used(cache_folder, kept, caplog, part, mode):
    folder = cache_folder / "resnet_jax" / part
    folder.mkdir(parents=True)
    folder.chmod(mode)
    assert kept() is None
    assert f"compiled programs are not cached: other users may write to {folder}; remove it or" in caplog.text


def test_a_folder_given_is_checked_too(kept, tmp_path, caplog):
    (tmp_path / "given").mkdir()
    (tmp_path / "given").chmod(0o777)
    assert kept(tmp_path / "given") is None
    assert "other users may write to" in caplog.text


@pytest.mark.parametrize("part", [".", "compiled"])
def test_a_cache_of_another_user_is_not_used(cache_folder, kept, caplog, monkeypatch, part):
    folder = cache_folder / "resnet_jax" / part
    folder.mkdir(parents=True, mode=0o755)
    if os.geteuid() == 0:
        os.chown(folder, 12345, -1)
    else:
        monkeypatch.setattr(backend.os, "geteuid", lambda: 12345)
    assert kept() is None
    assert "belongs to another user; remove it or" in caplog.text


def test_without_a_place_for_compiled_programs_the_run_goes_on(kept, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert kept() is None


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
