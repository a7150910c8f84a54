"""From ``config.model`` to a net: which there are, what they are called, what they depend on."""

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from resnet_jax import models
from resnet_jax.errors import UserError

CONFIG = {"family": "cifar", "depth": 20, "residual": True, "shortcut": "A", "bottleneck_stride": "first"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": 21}, r"config\.model\.depth=21 is not 6n\+2.*20 and 26"),
        ({"depth": 55}, r"config\.model\.depth=55 is not 6n\+2.*50 and 56"),
        ({"depth": 2}, r"config\.model\.depth=2 is not 6n\+2.*smallest depth is 8"),
        ({"depth": -4}, r"config\.model\.depth=-4 is not 6n\+2.*smallest depth is 8"),
        ({"family": "imagenet", "depth": 20}, r"config\.model\.depth=20 .* choose one of 18, 34, 50, 101, 152"),
    ],
)
def test_a_depth_that_the_family_does_not_have_is_reported_with_those_near_it(wrong, message):
    with pytest.raises(UserError, match=message):
        models.build(ConfigDict(CONFIG | wrong), 10)


@pytest.mark.parametrize("depth", [8, 14, 20, 26, 98])
def test_every_6n_plus_2_is_built_with_that_many_weighted_layers(depth):
    model = models.build(ConfigDict(CONFIG | {"depth": depth}), 10)
    assert 2 * sum(model.stage_sizes) + 2 == depth


@pytest.mark.parametrize(
    ("fields", "series", "read"),
    [
        ({"residual": False}, "plain", {"family", "depth", "residual"}),
        ({}, "residual", {"family", "depth", "residual", "shortcut"}),
        ({"family": "imagenet", "depth": 34}, "residual", {"family", "depth", "residual", "shortcut"}),
        (
            {"family": "imagenet", "depth": 50, "residual": False},
            "plain",
            {"family", "depth", "residual", "bottleneck_stride"},
        ),
    ],
)
def test_a_net_has_a_title_and_tells_which_fields_it_depends_on(fields, series, read):
    model = CONFIG | fields
    assert models.series_title(model) == series
    assert models.title(model) == f"{series}-{model['depth']}"
    assert set(models.fields_read(model)) == read
    assert models.title(ConfigDict(model)) == models.title(model)


@pytest.mark.parametrize("fields", [{"residual": False}, {"depth": 26}, {"family": "imagenet", "depth": 18}])
def test_fields_that_a_net_does_not_read_change_nothing(fields):
    model = CONFIG | fields
    others = {"shortcut": "B", "bottleneck_stride": "middle"}
    changed = model | {name: value for name, value in others.items() if name not in models.fields_read(model)}
    assert changed != model
    nets = [models.build(ConfigDict(each), 10) for each in (model, changed)]
    shapes = [models.template(net, (32, 32, 3)) for net in nets]
    assert jax.tree.map(jnp.shape, shapes[0]) == jax.tree.map(jnp.shape, shapes[1])
