"""Every config is what its name says, and the recipe is the paper's."""

import importlib
import json
import pathlib
import re

import pytest

import configs
from resnet_jax import data, models
from resnet_jax.config import check
from resnet_jax.report.tables import PUBLISHED

FOLDER = pathlib.Path(configs.__path__[0])
NAMES = sorted(path.stem for path in FOLDER.glob("*_*.py"))
DENSE = re.compile(r"(cifar|imagenet)_densenet(_bc)?(\d+)(?:_(\d+))?")


def test_the_promised_configs_are_there():
    promised = [f"cifar_plain{depth}" for depth in (20, 32, 44, 56, 110)]
    promised += [f"cifar_resnet{depth}" for depth in (20, 32, 44, 56, 110, 1202)]
    promised += [f"cifar_preact{depth}" for depth in (20, 56, 110, 164, 1001)]
    promised += ["cifar_wrn16_4", "cifar_wrn28_10", "cifar_wrn40_4"]
    promised += [f"cifar_single{depth}" for depth in (20, 56, 110)]
    promised += ["cifar_densenet40_12", "cifar_densenet_bc100_12"]
    promised += [f"cifar_densenet_bc40_{growth}" for growth in (36, 48, 60)]
    promised += ["cifar_stochastic110", "cifar_stochastic1202", "cifar_inception44", "cifar_inception116"]
    promised += [f"cifar_{remedy}56" for remedy in ("fixup", "skipinit", "rezero", "normalizer_free")]
    promised += ["cifar_fixup110", "cifar_dirac56", "cifar_delta_orthogonal56", "cifar_repvgg56"]
    promised += [f"digits_{kind}{depth}" for kind in ("plain", "resnet") for depth in (20, 56)]
    promised += [f"imagenet_plain{depth}" for depth in (18, 34)]
    promised += [f"imagenet_resnet{depth}" for depth in (18, 34, 50, 101, 152)]
    promised += ["imagenet_preact200", "imagenet_wide50_2", "imagenet_inception_v4"]
    promised += [f"imagenet_densenet{depth}" for depth in (121, 169, 201, 161, 264)]
    promised += ["imagenet_inception_resnet_v1", "imagenet_inception_resnet_v2"]
    promised += ["folder_resnet18"]
    assert set(promised) <= set(NAMES)


# What the middle of a config's name says of ``config.model``.
KINDS = {
    "plain": {"residual": False, "order": "original"},
    "resnet": {"residual": True, "order": "original", "survival": 1, "widening": 1},
    "preact": {"residual": True, "order": "preactivation"},
    "single": {"residual": True, "block": "single"},
    "fixup": {"residual": True, "branch_scaling": "fixup"},
    "skipinit": {"residual": True, "branch_scaling": "skipinit"},
    "rezero": {"residual": True, "branch_scaling": "rezero"},
    "normalizer_free": {"residual": True, "branch_scaling": "normalizer_free"},
    "dirac": {"residual": False, "parametrization": "dirac"},
    "delta_orthogonal": {"residual": False, "init": "delta_orthogonal"},
    "repvgg": {"residual": True, "block": "repvgg"},
    "stochastic": {"residual": True, "survival": 0.5, "shortcut": "pool"},
    "wrn": {"family": "wide"},
    "wide": {"family": "imagenet", "order": "original"},
    "densenet": {"compression": 1},
    "densenet_bc": {"compression": 0.5},
    "imagenet_densenet": {"compression": 0.5},
    "inception": {"family": "inception"},
}


@pytest.mark.parametrize("name", NAMES)
def test_a_config_describes_the_net_of_its_name(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    model = config.model
    data_set, kind, depth, width = re.fullmatch(r"([a-z]+)_([a-z_]+?)(\d*)(?:_(\d+))?", name).groups()
    assert config.data.name.startswith(data_set)
    if name.startswith("imagenet_inception"):
        assert model.family == name.removeprefix("imagenet_")
    else:
        expected = KINDS.get(f"{data_set}_{kind}") or KINDS[kind]
        assert {field: model[field] for field in expected} == expected
        assert model.depth == int(depth)
    if width is not None:
        assert int(width) == (model.growth if "densenet" in kind else model.widening)
    num_classes = 2 if data_set == "folder" else data.shape(config.data)[1]
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


def test_at_16x16_the_cifar_recipe_is_the_papers_in_proportion():
    config = importlib.import_module("configs.sweeps.cifar16_depth").get_config()
    paper = importlib.import_module("configs.cifar_plain20").get_config()
    side, full = (data.shape(each.data)[0][0] for each in (config, paper))
    assert (side, config.data.padding / side) == (16, paper.data.padding / full)
    assert config.steps == paper.steps / 16
    assert (config.optimizer, config.batch_size, config.model) == (paper.optimizer, paper.batch_size, paper.model)
    assert config.data.flip


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("imagenet_resnet", "imagenet_plain"))])
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
        if row["data"] == "imagenet2012" and models.complete(row["model"]) == config.model
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


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("imagenet_inception")])
def test_the_imagenet_inception_recipe_is_the_papers_and_its_error_is_reported(name):
    module = importlib.import_module(f"configs.{name}")
    config = module.get_config()
    check(config, devices=1)
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
