"""Every test runs on two virtual CPU devices, with strict shapes, without the user's settings and caches."""

import os
import pathlib
import shutil
import signal
import sys
import tempfile

from tests import compiled, hermetic

# Folder of this session. The workers of pytest-xdist and the processes that tests start find it, and all else, here.
OWNED = "RESNET_JAX_TESTS" not in os.environ
if OWNED:
    os.environ["RESNET_JAX_TESTS"] = tempfile.mkdtemp(prefix="resnet_jax_tests")
SESSION = pathlib.Path(os.environ["RESNET_JAX_TESTS"])
# Most of the time is compiling, so tests and the commands they start share what is compiled, with earlier sessions too.
KEEPS_COMPILED = OWNED and "JAX_COMPILATION_CACHE_DIR" not in os.environ
KEPT = pathlib.Path(__file__).parents[1] / ".pytest_cache" / "compiled"
if OWNED:
    hermetic.seal(os.environ, SESSION)
if KEEPS_COMPILED:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(SESSION / "compiled")
    compiled.copy(KEPT, SESSION / "compiled")
DEVICES = 2
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": str(DEVICES),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    # Else the folder of the session is part of the key of a program.
    "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
}
# In the background a shell lets programs ignore Ctrl-C, and nohup SIGHUP; tests check the effects of both.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

from resnet_jax.backend import set_xla_flags

set_xla_flags()

import jax
import jax.extend
import pytest
from ml_collections import ConfigDict

from configs import recipes
from resnet_jax import models, registry
from resnet_jax.fields import FIELDS
from resnet_jax.models.variants import VARIANTS
from resnet_jax.training import train
from tests.commands import Commands

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_sessionfinish():
    if KEEPS_COMPILED:
        compiled.keep(SESSION / "compiled", KEPT)
    if OWNED:
        shutil.rmtree(SESSION, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Give JAX as many devices as the mark ``devices`` of a test says."""
    mark = item.get_closest_marker("devices")
    count = mark.args[0] if mark else DEVICES
    if jax.config.jax_num_cpu_devices != count:
        jax.clear_caches()
        jax.extend.backend.clear_backends()
        jax.config.update("jax_num_cpu_devices", count)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def commands():
    """Return a function that runs commands: ``commands("main", *words)`` is ``subprocess.run``, but quick."""
    with Commands() as commands:
        yield commands


@pytest.fixture
def registrations():
    """Let a test register nets and blocks and import files; afterwards nothing is left of them."""
    tables = (FIELDS, models.FAMILIES, VARIANTS["block"], registry._REGISTERED, registry._QUALIFIED)
    before = [dict(table) for table in tables]
    yield
    for table, rows in zip(tables, before, strict=True):
        table.clear()
        table.update(rows)
    for name in ("net", "own_net", "squeeze_excite", "highway"):  # What these tests import.
        sys.modules.pop(name, None)


@pytest.fixture
def config() -> ConfigDict:
    return small_config()


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """Return the directory of an undisturbed run of ``config``; a test that changes it makes a copy."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    train(small_config(), workdir, ["python", "-m", "experiments.main"])
    return workdir


def small_config():
    """Return a run of seconds: residual-8 on the digits."""
    config = recipes.digits(depth=8, residual=True)
    config.batch_size = 32
    config.steps = 12
    config.log_every = 4
    config.eval_every = 6
    config.checkpoint_every = 5
    return config
