"""Each kind of net trains: its loss falls on the digits, and it makes steps on real CIFAR-10."""

import os
import pathlib

import numpy as np
import pytest

from configs import recipes
from resnet_jax import data, models
from resnet_jax.fields import FIELDS
from resnet_jax.rundir import read_metrics
from resnet_jax.training import feed, train
from resnet_jax.training.program import make_program

pytestmark = pytest.mark.usefixtures("quick_compiling")
NETS = {
    "residual": {},
    "plain": {"residual": False},
    "preactivation": {"order": "preactivation"},
    "bottleneck": {"order": "preactivation", "block": "bottleneck", "shortcut": "B", "depth": 11},
    "single": {"block": "single"},
    "gating": {"shortcut": "shortcut_gating"},
    "group norm": {"norm": "group"},
    "fixup": {"branch_scaling": "fixup"},
    "skipinit": {"branch_scaling": "skipinit"},
    "rezero": {"branch_scaling": "rezero"},
    "normalizer-free": {"branch_scaling": "normalizer_free", "shortcut": "B"},
    "dirac": {"parametrization": "dirac", "residual": False},
    "standardized": {"parametrization": "standardized", "norm": "none", "residual": False},
    "delta-orthogonal": {"init": "delta_orthogonal", "activation": "tanh", "norm": "none", "residual": False},
    "looks-linear": {"init": "looks_linear", "activation": "crelu", "norm": "none", "residual": False},
    "LSUV": {"init": "lsuv", "norm": "none", "residual": False},
    "repvgg": {"block": "repvgg"},
    "swish": {"activation": "swish"},
    "GELU": {"activation": "gelu", "order": "relu_preactivation", "shortcut": "B"},
    "stochastic depth": {"survival": 0.5, "shortcut": "pool"},
    "wide": {"family": "wide", "depth": 10, "widening": 2.0, "dropout": 0.1},
    "DenseNet": {"family": "densenet", "depth": 13, "growth": 8},
    "DenseNet-BC": {"family": "densenet", "depth": 16, "growth": 8, "compression": 0.5},
    "DenseNet without its paths": {"family": "densenet", "depth": 13, "growth": 8, "residual": False},
    "Inception": {"family": "inception", "depth": 20},
    "plain Inception": {"family": "inception", "depth": 20, "residual": False},
}
# Branches that begin at 0 are slow to start at the recipe's rate, for nothing normalises the dark digits.
RATES = dict.fromkeys(("fixup", "skipinit", "normalizer-free"), 0.1)
FAMILIES_FOR_CROPS = {"imagenet", "imagenet_densenet", *(name for name in models.FAMILIES if name.startswith("incep"))}


def short(config, steps, fields):
    config.model.update(fields)
    config.batch_size = 32
    config.steps = config.eval_every = config.checkpoint_every = steps
    config.log_every = max(1, steps // 10)
    config.optimizer.warmup_steps = 0
    return config


def losses(workdir):
    return [line["loss"] for line in read_metrics(workdir / "metrics.jsonl") if line["split"] == "train"]


def test_every_family_for_small_images_is_trained_here():
    trained = {fields.get("family", "cifar") for fields in NETS.values()}
    assert trained == set(FIELDS["model.family"].choices) - FAMILIES_FOR_CROPS | {"inception"}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_the_loss_falls_on_the_digits(name, tmp_path):
    config = short(recipes.digits(depth=8, residual=True), 100, NETS[name])
    config.optimizer.learning_rate = RATES.get(name, config.optimizer.learning_rate)
    assert train(config, tmp_path / "run")["status"] == "finished"
    found = losses(tmp_path / "run")
    assert np.mean(found[-3:]) < 0.7 * found[0]


@pytest.fixture(scope="module")
def cifar10():
    if not (pathlib.Path(os.environ.get("TFDS_DATA_DIR", "/nowhere")) / "cifar10").is_dir():
        pytest.skip("TFDS_DATA_DIR names no folder with a prepared cifar10")
    return data.load(recipes.cifar(depth=8, residual=True).data)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_five_steps_on_the_real_cifar10_lower_the_loss_of_their_images(name, cifar10):
    config = short(recipes.cifar(depth=8, residual=True), 5, NETS[name])
    config.optimizer.learning_rate = 0.02
    program = make_program(config, 10)
    examples, _ = feed.place(cifar10, data.normalisation(cifar10, config.data), config.seed, program.mesh)
    batches = np.tile(np.arange(config.batch_size, dtype=np.int32), (5, 1))
    _, metrics = program.train_steps(program.init((32, 32, 3)), examples, batches)
    found = np.asarray(metrics["loss"])
    assert found[-1] < found[0]
