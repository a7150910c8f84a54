"""The project as a package: contents of its wheel, use without the repository, and settings of the checks around it."""

import email
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
import yaml
from packaging.requirements import Requirement

from resnet_jax import __version__

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("resnet_jax", "experiments", "configs")


def requirements(file):
    """Return the requirements of ``file`` as text of one form."""
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in (ROOT / file).read_text().splitlines()]
    return {str(Requirement(line)) for line in lines if line}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return the wheel, made of a copy, because setuptools leaves its build next to the sources."""
    pytest.importorskip("setuptools", minversion="70.1", reason="setuptools, which makes the wheel, is not installed")
    folder = tmp_path_factory.mktemp("package")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "requirements.txt"):
        shutil.copy(ROOT / file, folder)
    program = "from setuptools import build_meta; build_meta.build_wheel('.')"
    built = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    [path] = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel):
    return email.message_from_bytes(wheel.read(f"resnet_jax-{__version__}.dist-info/METADATA"))


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel):
    files = {path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()}
    expected = {path.as_posix() for path in files if "__pycache__" not in path.parts}
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected
    assert {"resnet_jax/report/report.html", "resnet_jax/py.typed", "configs/sweeps/digits_depth.py"} <= expected


def test_the_metadata_has_the_requirements_and_the_extras(metadata):
    assert (metadata["Name"], metadata["Version"]) == ("resnet-jax", __version__)
    required = [Requirement(text) for text in metadata.get_all("Requires-Dist")]
    always = {str(each) for each in required if "extra" not in str(each.marker)}
    assert always == requirements("requirements.txt")
    extras = {name: set() for name in metadata.get_all("Provides-Extra")}
    for each in required:
        for name in extras:
            if each.marker and 'extra == "' + name in str(each.marker):
                extras[name].add(str(each).partition(";")[0])
    assert extras == {
        "cuda13": {"jax[cuda13]"},
        "tpu": {"jax[tpu]"},
        "bench": requirements("benchmarks/requirements.txt"),
    }


@pytest.mark.slow
def test_the_installed_package_trains_and_compares_far_from_the_repository(wheel, tmp_path):
    site, away = tmp_path / "site", tmp_path / "away"
    wheel.extractall(site)
    away.mkdir()
    # Nothing of this repository is found, and its own folder lies in a checkout of something else.
    subprocess.run(["git", "init", "-q", tmp_path], check=True)

    def run(command, *words):
        program = [sys.executable, "-P", "-m", f"experiments.{command}", *words]
        return subprocess.run(
            program, cwd=away, env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, text=True
        )

    missing = run("main", "--config=configs/digits_plain20.py")
    assert missing.returncode == 2
    assert f"no such file; the configs are in {site}/configs." in missing.stderr
    config = site / "configs" / "digits_plain20.py"
    trained = run("main", f"--config={config}", "--config.model.depth=8", "--config.steps=2", "--workdir=runs/one")
    assert trained.returncode == 0, trained.stderr
    [start] = json.loads((away / "runs" / "one" / "environment.json").read_text())
    assert (start["git_revision"], start["git_dirty"]) == (None, False)
    assert start["packages"]["resnet_jax"] == __version__
    compared = run("compare", "runs")
    assert compared.returncode == 0, compared.stderr
    assert (away / "runs" / "comparison" / "report.html").is_file()


def test_the_citation_has_what_its_format_requires():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == __version__
    assert citation["title"]
    assert citation["message"]
    assert all(author["name"] for author in citation["authors"])
    [paper] = citation["references"]
    assert paper["type"] == "conference-paper"
    assert [author["family-names"] for author in paper["authors"]] == ["He", "Zhang", "Ren", "Sun"]


def test_linters_and_workflow_use_the_supported_python_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    oldest = project["project"]["requires-python"].removeprefix(">=")
    assert project["tool"]["mypy"]["python_version"] == oldest
    assert project["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    listed = re.findall(r"Python :: (3\.\d+)", " ".join(project["project"]["classifiers"]))
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    assert workflow["jobs"]["commit"]["strategy"]["matrix"]["python"] == [oldest, listed[-1]]
    assert workflow["jobs"]["nightly"]["steps"][-1]["run"] == ".ci/run"


def test_pre_commit_uses_the_ruff_of_make_lint():
    [hooks] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert f"ruff=={hooks['rev'].removeprefix('v')}" in (ROOT / "requirements.lock").read_text().splitlines()
    assert [hook["id"] for hook in hooks["hooks"]] == ["ruff-check", "ruff-format"]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_without_a_target_lists_the_targets():
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    [phony] = re.findall(r"^\.PHONY: help (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r"^make (\S+) ", listed, re.MULTILINE) == phony.split()
