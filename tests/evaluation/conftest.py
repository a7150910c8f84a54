import pytest

from configs import recipes
from resnet_jax.training import train


def varied_config():
    """Return the config of ``varied``."""
    config = recipes.digits(depth=8, residual=False)
    config.update_from_flattened_dict({"batch_size": 32, "steps": 12, "checkpoint_every": 5})
    config.optimizer.average_decay = 0.9
    config.data.update(validation_examples=100, downsample=2, mean="channel", std="scalar")
    return config


@pytest.fixture(scope="session")
def varied(tmp_path_factory):
    """Return the directory of a plain run on downsampled images that averages its parameters and keeps three nets."""
    workdir = tmp_path_factory.mktemp("varied") / "varied"
    train(varied_config(), workdir)
    return workdir
