"""Every test runs on eight virtual CPU devices, with strict shapes and its own cache folder."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"

from resnet_jax.backend import set_xla_flags

set_xla_flags()

import jax
import pytest
from ml_collections import ConfigDict

from configs import recipes

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


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
    config.optimizer.milestones = (6, 9)
    config.log_every = 4
    config.eval_every = 6
    config.checkpoint_every = 5
    return config
