"""Every test runs on eight virtual CPU devices, with strict shapes and its own cache folder."""

import os
import shutil
import signal
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
# Most of the time is compiling, so all tests and the commands they start share what is compiled.
MAKES_FOLDER = "JAX_COMPILATION_CACHE_DIR" not in os.environ
if MAKES_FOLDER:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="compiled")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
# In the background a shell lets programs ignore Ctrl-C, of which tests are to see the effect.
signal.signal(signal.SIGINT, signal.default_int_handler)

from resnet_jax.backend import set_xla_flags

set_xla_flags()

import jax
import pytest
from ml_collections import ConfigDict

from configs import recipes

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_sessionfinish():
    if MAKES_FOLDER:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def config() -> ConfigDict:
    """Return a run of seconds: residual-8 on the digits."""
    config = recipes.digits(depth=8, residual=True)
    config.batch_size = 32
    config.steps = 12
    config.log_every = 4
    config.eval_every = 6
    config.checkpoint_every = 5
    return config
