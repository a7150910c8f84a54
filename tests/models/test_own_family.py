"""Families that users register, and nets of Flax's own layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import recipes
from resnet_jax import instruments, models
from resnet_jax.errors import UserError
from resnet_jax.models.layers import init
from resnet_jax.models.stage import Stage
from resnet_jax.safe_files import read_json
from resnet_jax.training import train
from resnet_jax.training.interventions import interventions_of

pytestmark = pytest.mark.usefixtures("registrations")
IMAGE = (8, 8, 1)


def make(model, *, num_classes, **_):
    return Net(num_classes)


class Net(nn.Module):
    """A net of Flax's own layers without blocks."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, images, train):
        x = nn.Conv(8, (3, 3), name="conv")(images)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(x))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        x = nn.LayerNorm()(nn.Dense(16, kernel_init=init.he_normal, name="hidden")(x.mean((1, 2))))
        return nn.Dense(self.num_classes, name="head")(x)


class Block(nn.Module):
    """A block for ``Stage``."""

    stride: int

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Conv(4, (3, 3), name="conv")(x))


class Applied(nn.Module):
    """``inner``, called with the images, then a mean over places."""

    inner: nn.Module

    @nn.compact
    def __call__(self, images, train):
        return self.inner(images).mean((1, 2))


def test_flax_layers_have_the_initial_values_of_their_own_initialisers():
    params = models.initial_variables(Net(), 0, IMAGE)["params"]
    flax = jax.eval_shape(lambda: Net().init(jax.random.key(0), jnp.zeros((1, *IMAGE)), train=False))["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, flax)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
    np.testing.assert_allclose(params["conv"]["kernel"].std(), 1 / 3, rtol=0.2)  # LeCun's, of a fan-in of 9.
    np.testing.assert_array_equal(params["norm"]["scale"], np.ones(8))
    np.testing.assert_array_equal(params["hidden"]["bias"], np.zeros(16))


def test_they_are_functions_of_seed_and_path():
    first, again, other = (models.initial_variables(Net(classes), 0, IMAGE) for classes in (10, 10, 5))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    np.testing.assert_array_equal(first["params"]["conv"]["kernel"], other["params"]["conv"]["kernel"])
    seeded = models.initial_variables(Net(), 1, IMAGE)
    assert np.all(first["params"]["conv"]["kernel"] != seeded["params"]["conv"]["kernel"])


def test_blocks_of_a_loop_are_drawn_one_by_one_as_if_they_were_not_in_it():
    deep, shallow = (models.initial_variables(Applied(Stage(n, 1, Block)), 0, IMAGE)["params"]["inner"] for n in (3, 2))
    kernels = deep["rest"]["conv"]["kernel"]
    assert kernels.shape == (2, 3, 3, 4, 4)
    assert np.all(kernels[0] != kernels[1])
    np.testing.assert_array_equal(kernels[0], shallow["rest"]["conv"]["kernel"][0])


class Root(nn.Module):
    """A net with a variable outside of its modules."""

    @nn.compact
    def __call__(self, images, train):
        return images.mean((1, 2)) * self.param("gain", init.ones, ())


class Counter(nn.Module):
    """A module with a variable that no run keeps."""

    @nn.compact
    def __call__(self, x):
        return x + self.variable("counts", "calls", jnp.zeros, ()).value


class Elsewhere(nn.Module):
    """A module whose variable depends on the rest of its net."""

    @nn.compact
    def __call__(self, x):
        shape = (2,) if self.name else (3,)
        return x * self.param("gain", nn.initializers.ones, shape)[0]


class Failing(nn.Module):
    """A module that cannot be called without its net."""

    @nn.compact
    def __call__(self, x):
        if self.name is None:
            raise RuntimeError("needs its net")
        return x * self.param("gain", nn.initializers.ones, ())


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Root(), "^gain belongs to no module within the net that is called; make it a module's own"),
        (Applied(Counter()), "inner/calls is in collection 'counts'; runs keep only params and batch_stats"),
        (
            Applied(Elsewhere()),
            "inner/gain has no law .* module Elsewhere has another variable without the rest of the",
        ),
        (
            Applied(Failing()),
            r"inner/gain has no law .* module Failing cannot be initialised without the rest of the net \(RuntimeError"
            r": needs its net\); declare its law as in nn.Dense\(hidden, kernel_init=init.he_normal, bias_init=init.z",
        ),
    ],
)
def test_a_variable_that_cannot_be_drawn_is_refused(net, message):
    with pytest.raises(UserError, match=message):
        models.initial_variables(net, 0, IMAGE)


def test_the_title_of_a_family_has_the_fields_of_titles_that_it_declares():
    models.register_family("mine", make, fields=("depth", "widening", "dropout"))
    model = {"family": "mine", "depth": 8, "residual": False, "widening": 2.0, "dropout": 0.5}
    assert models.title(model) == "mine-8 widening 2.0"
    assert models.series_title(model) == "mine-n widening 2.0"
    assert models.fields_read(model) == ("family", "depth", "widening", "dropout")
    models.register_family("twins", lambda model, **_: Net())
    assert models.title({"family": "twins", "depth": 8, "residual": False}) == "plain twins-8"
    assert models.series_title({"family": "twins", "depth": 8, "residual": True}) == "twins"


def test_a_field_that_is_not_declared_cannot_be_read():
    models.register_family("mine", lambda model, **_: model.widening)
    with pytest.raises(UserError, match=r"reads config.model.widening without declaring it; add it to fields in"):
        models.build({"family": "mine"}, num_classes=10)
    with pytest.raises(UserError, match=r"declares an unknown field config.model.wide; did you mean"):
        models.register_family("misspelt", make, fields=("wide",))


def test_interventions_on_blocks_need_blocks():
    models.register_family("mine", make)
    config = recipes.digits(depth=8, residual=True, family="mine")
    config.optimizer.frozen_below = "stage1/block0"
    with pytest.raises(UserError, match=r"mine-8 has no blocks, modules named .* which config.gates"):
        interventions_of(config, Net(), IMAGE)


@pytest.mark.slow
def test_every_instrument_measures_a_net_without_blocks_or_says_that_it_does_not_apply(tmp_path):
    models.register_family("mine", make)
    config = recipes.digits(depth=4, residual=True, family="mine")
    config.steps, config.batch_size = 2, 16
    train(config, tmp_path / "run")
    assert read_json(tmp_path / "run" / "summary.json")["parameters"] == sum(
        leaf.size for leaf in jax.tree.leaves(models.initial_variables(Net(), 0, IMAGE)["params"])
    )
    subject = instruments.of_run(tmp_path / "run", settings=instruments.Settings(16, 8, 0))
    refused = {}
    for name, each in instruments.INSTRUMENTS.items():
        try:
            each.measure(subject)
        except UserError as error:
            refused[name] = str(error)
    assert instruments.INSTRUMENTS.keys() - refused.keys() == {"confusion", "jacobian", "hessian", "landscape"}
    assert all("mine-4" in message for message in refused.values())
