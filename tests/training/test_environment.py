"""The record of the machine and the code."""

import subprocess

import jax

from resnet_jax.training import environment as module
from resnet_jax.training.environment import changed_files, environment, versions


def test_the_environment_has_devices_packages_and_revision():
    made = environment()
    assert made["device_count"] == jax.device_count()
    assert made["packages"]["jax"]
    git = {"git_revision", "git_dirty", "git_changed"}
    assert made.keys() >= {"python", "device_kind", "host_count", "xla_flags", *git}


def test_settings_that_change_numbers_are_among_the_versions():
    before = versions()
    with jax.enable_x64(True), jax.default_matmul_precision("float32"), jax.threefry_partitionable(False):
        changed = {name for name, value in versions().items() if value != before[name]}
    assert changed == {"enable_x64", "default_matmul_precision", "threefry_partitionable"}


def test_the_changed_files_are_those_that_git_shows_by_their_names_as_they_are(tmp_path, monkeypatch):
    def git(*arguments):
        command = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e", *arguments]
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.strip("\n")

    monkeypatch.setattr(module, "git", git)
    git("init")
    for name in ("changed", "removed", "moved"):
        (tmp_path / name).write_text(f"of {name}, long enough to be known again" * 9)
    git("add", ".")
    git("commit", "--message=first")
    assert changed_files() == []
    (tmp_path / "changed").write_text("other")
    (tmp_path / "removed").unlink()
    (tmp_path / "new é").mkdir()
    (tmp_path / "new é" / "file").touch()
    git("mv", "moved", "here")
    assert changed_files() == ["changed", "here", "moved", "new é/", "removed"]
