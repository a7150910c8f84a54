"""Every config is what its name says, and the recipe is the paper's."""

import importlib
import json
import pathlib
import re

import pytest

import configs
from resnet_jax import data, models
from resnet_jax.analysis.tables import PUBLISHED

FOLDER = pathlib.Path(configs.__path__[0])
NAMES = sorted(path.stem for path in FOLDER.glob("*_*.py"))
DENSE = re.compile(r"(cifar|imagenet)_densenet(_bc)?(\d+)(?:_(\d+))?")


def test_the_promised_configs_are_there():
    promised = [f"cifar_plain{depth}" for depth in (20, 32, 44, 56, 110)]
    promised += [f"cifar_resnet{depth}" for depth in (20, 32, 44, 56, 110, 1202)]
    promised += [f"digits_{kind}{depth}" for kind in ("plain", "resnet") for depth in (20, 56)]
    promised += [f"imagenet_plain{depth}" for depth in (18, 34)]
    promised += [f"imagenet_resnet{depth}" for depth in (18, 34, 50, 101, 152)]
    promised += ["folder_resnet18", "cifar_densenet40_12", "cifar_densenet_bc100_12"]
    promised += [f"imagenet_densenet{depth}" for depth in (121, 161, 169, 201, 264)]
    assert set(promised) <= set(NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if not DENSE.fullmatch(name)])
def test_a_config_describes_the_net_of_its_name(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    family, kind, depth = re.fullmatch(r"([a-z]+)_(plain|resnet)(\d+)", name).groups()
    assert config.model.family == ("imagenet" if family in ("imagenet", "folder") else "cifar")
    assert config.data.name.startswith(family)
    assert config.model.residual == (kind == "resnet")
    assert config.model.depth == int(depth)
    num_classes = 2 if family == "folder" else data.shape(config.data)[1]
    models.build(config.model, num_classes, config.dtype)


@pytest.mark.parametrize("name", [name for name in NAMES if DENSE.fullmatch(name)])
def test_a_densenet_config_describes_the_net_of_its_name_and_the_recipe_is_the_papers(name):
    module = importlib.import_module(f"configs.{name}")
    config = module.get_config()
    family, bc, depth, growth = DENSE.fullmatch(name).groups()
    model, recipe = config.model, config.optimizer
    assert (model.depth, model.growth) == (int(depth), int(growth or (48 if depth == "161" else 32)))
    assert model.compression == (0.5 if bc or family == "imagenet" else 1)
    assert (config.data.name, config.data.mean) == ({"cifar": "cifar10"}.get(family, "imagenet2012"), "channel")
    assert (recipe.learning_rate, recipe.momentum, recipe.weight_decay) == (0.1, 0.9, 1e-4)
    assert recipe.warmup_steps == 0
    if family == "cifar":
        assert (config.steps, config.batch_size, recipe.milestones) == (300 * 782, 64, (0.5, 0.75))
    else:
        assert (config.steps, config.batch_size, recipe.milestones) == (90 * 5005, 256, (1 / 3, 2 / 3))
    assert re.search(r"\d\d?\.\d+ %", module.__doc__)
    models.build(config.model, data.shape(config.data)[1], config.dtype)


def test_the_cifar_recipe_is_the_papers():
    config = importlib.import_module("configs.cifar_resnet56").get_config()
    assert (config.steps, config.batch_size) == (64_000, 128)
    recipe = config.optimizer
    assert (recipe.learning_rate, recipe.momentum, recipe.weight_decay) == (0.1, 0.9, 1e-4)
    assert (recipe.milestones, recipe.factor) == ((0.5, 0.75), 0.1)
    assert (config.data.name, config.data.padding, config.data.flip) == ("cifar10", 4, True)
    assert config.model.shortcut == "A"


@pytest.mark.parametrize("name", [name for name in NAMES if re.match("imagenet_(plain|resnet)", name)])
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
