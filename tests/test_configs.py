"""Every config is what its name says, and the recipe is the paper's."""

import importlib
import json
import pathlib
import re

import pytest

import configs
from resnet_jax import data, models
from resnet_jax.analysis.tables import PUBLISHED
from resnet_jax.config import check

FOLDER = pathlib.Path(configs.__path__[0])
INCEPTIONS = sorted(path.stem for path in FOLDER.glob("*_inception*.py"))
NAMES = sorted({path.stem for path in FOLDER.glob("*_*.py")} - set(INCEPTIONS))


def test_the_promised_configs_are_there():
    promised = [f"cifar_plain{depth}" for depth in (20, 32, 44, 56, 110)]
    promised += [f"cifar_resnet{depth}" for depth in (20, 32, 44, 56, 110, 1202)]
    promised += [f"digits_{kind}{depth}" for kind in ("plain", "resnet") for depth in (20, 56)]
    promised += [f"imagenet_plain{depth}" for depth in (18, 34)]
    promised += [f"imagenet_resnet{depth}" for depth in (18, 34, 50, 101, 152)]
    promised += ["folder_resnet18"]
    assert set(promised) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_describes_the_net_of_its_name(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    family, kind, depth = re.fullmatch(r"([a-z]+)_(plain|resnet)(\d+)", name).groups()
    assert config.model.family == ("imagenet" if family in ("imagenet", "folder") else "cifar")
    assert config.data.name.startswith(family)
    assert config.model.residual == (kind == "resnet")
    assert config.model.depth == int(depth)
    num_classes = 2 if family == "folder" else data.shape(config.data)[1]
    models.build(config.model, num_classes, config.dtype)


def test_the_cifar_recipe_is_the_papers():
    config = importlib.import_module("configs.cifar_resnet56").get_config()
    assert (config.steps, config.batch_size) == (64_000, 128)
    recipe = config.optimizer
    assert (recipe.learning_rate, recipe.momentum, recipe.weight_decay) == (0.1, 0.9, 1e-4)
    assert (recipe.milestones, recipe.factor) == ((0.5, 0.75), 0.1)
    assert (config.data.name, config.data.padding, config.data.flip) == ("cifar10", 4, True)
    assert config.model.shortcut == "A"


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("imagenet")])
def test_the_imagenet_recipe_is_the_papers_and_its_error_is_reported(name):
    module = importlib.import_module(f"configs.{name}")
    config = module.get_config()
    assert (config.steps, config.batch_size) == (600_000, 256)
    recipe = config.optimizer
    assert (recipe.learning_rate, recipe.momentum, recipe.weight_decay) == (0.1, 0.9, 1e-4)
    assert (recipe.schedule, recipe.milestones, recipe.factor) == ("step", (1 / 3, 2 / 3), 0.1)
    assert config.model.shortcut == ("A" if config.model.depth in (18, 34) else "B")
    assert config.model.bottleneck_stride == "first"
    assert (config.data.image_size, config.data.augmentation, config.data.color_noise) == (224, "paper", 0.1)
    assert (config.data.mean, config.data.flip, config.data.padding) == ("pixel", True, 0)
    [published] = [
        row["test_error"]
        for row in json.loads(PUBLISHED.read_text())
        if row["data"] == "imagenet2012"
        and (row["kind"], row["depth"]) == ("residual" if config.model.residual else "plain", config.model.depth)
        and row["shortcut"] == (config.model.shortcut if config.model.residual else None)
    ]
    assert f"{100 * published:.2f} %" in module.__doc__


TWINS = [("cifar", 20), ("cifar", 56), ("digits", 20), ("digits", 56), ("imagenet", 18), ("imagenet", 34)]


@pytest.mark.parametrize(("family", "depth"), TWINS)
def test_twins_differ_by_the_shortcut_alone(family, depth):
    plain, residual = (
        importlib.import_module(f"configs.{family}_{kind}{depth}").get_config() for kind in ("plain", "resnet")
    )
    plain.model.residual = True
    assert plain == residual


def test_the_promised_inception_configs_are_there():
    imagenet = [f"imagenet_inception_{name}" for name in ("resnet_v1", "resnet_v2", "v4")]
    assert ["cifar_inception116", "cifar_inception44", *imagenet] == INCEPTIONS


@pytest.mark.parametrize("name", INCEPTIONS)
def test_an_inception_config_describes_the_net_of_its_name(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    check(config, devices=1)
    family, depth = re.fullmatch(r"(?:cifar|imagenet)_(inception[a-z_]*(?:_v\d)?)(\d*)", name).groups()
    assert config.model.family == family
    assert config.model.residual == (family != "inception_v4")
    if depth:
        assert config.model.depth == int(depth)
    models.build(config.model, 10, config.dtype)


@pytest.mark.parametrize("name", [name for name in INCEPTIONS if name.startswith("imagenet")])
def test_the_imagenet_inception_recipe_is_the_papers_and_its_error_is_reported(name):
    module = importlib.import_module(f"configs.{name}")
    config = module.get_config()
    recipe = config.optimizer
    assert (recipe.name, recipe.rmsprop_decay, recipe.rmsprop_epsilon) == ("rmsprop", 0.9, 1.0)
    assert (recipe.schedule, recipe.learning_rate, recipe.factor) == ("exponential", 0.045, 0.94)
    # Two epochs of 1,281,167 images.
    assert recipe.decay_steps * config.batch_size == pytest.approx(2 * 1_281_167, rel=1e-4)
    assert recipe.average_decay > 0
    assert (config.data.image_size, config.data.padding, config.model.dropout) == (299, 0, 0.2)
    # Szegedy et al. 2016, tables 2 and 4.
    published = {
        "inception_v4": ("20.0 % / 5.0 %", "18.7 % / 4.2 %"),
        "inception_resnet_v1": ("21.3 % / 5.5 %", "19.8 % / 4.6 %"),
        "inception_resnet_v2": ("19.9 % / 4.9 %", "18.7 % / 4.1 %"),
    }
    for error in published[config.model.family]:
        assert error in module.__doc__
