"""Every config is what its name says, and the recipe is the paper's."""

import importlib
import pathlib
import re

import pytest

import configs
from resnet_jax import data, models

FOLDER = pathlib.Path(configs.__path__[0])
NAMES = sorted(path.stem for path in FOLDER.glob("*_*.py"))


def test_the_promised_configs_are_there():
    promised = [f"cifar_plain{depth}" for depth in (20, 32, 44, 56, 110)]
    promised += [f"cifar_resnet{depth}" for depth in (20, 32, 44, 56, 110, 1202)]
    promised += [f"digits_{kind}{depth}" for kind in ("plain", "resnet") for depth in (20, 56)]
    assert set(promised) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_describes_the_net_of_its_name(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    kind, depth = re.fullmatch(r"[a-z]+_(plain|resnet)(\d+)", name).groups()
    assert config.model.residual == (kind == "resnet")
    assert config.model.depth == int(depth)
    _, num_classes = data.shape(config.data)
    models.build(config.model, num_classes, config.dtype)


def test_the_cifar_recipe_is_the_papers():
    config = importlib.import_module("configs.cifar_resnet56").get_config()
    assert (config.steps, config.batch_size) == (64_000, 128)
    recipe = config.optimizer
    assert (recipe.learning_rate, recipe.momentum, recipe.weight_decay) == (0.1, 0.9, 1e-4)
    assert (recipe.milestones, recipe.factor) == ((32_000, 48_000), 0.1)
    assert (config.data.name, config.data.padding, config.data.flip) == ("cifar10", 4, True)
    assert config.model.shortcut == "A"


@pytest.mark.parametrize("depth", [20, 56])
@pytest.mark.parametrize("family", ["cifar", "digits"])
def test_twins_differ_by_the_shortcut_alone(family, depth):
    plain, residual = (
        importlib.import_module(f"configs.{family}_{kind}{depth}").get_config() for kind in ("plain", "resnet")
    )
    plain.model.residual = True
    assert plain == residual
