"""Which nets there are."""

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
        ({"depth": 2}, r"config\.model\.depth=2 is not 6n\+2.*least depth is 8"),
        ({"depth": -4}, r"config\.model\.depth=-4 is not 6n\+2.*least depth is 8"),
        ({"family": "imagenet", "depth": 20}, r"config\.model\.depth=20 .* choose one of 18, 34, 50, 101, 152"),
    ],
)
def test_a_depth_that_the_family_does_not_have_is_told_with_those_near_it(wrong, message):
    with pytest.raises(UserError, match=message):
        models.build(ConfigDict(CONFIG | wrong), 10)


@pytest.mark.parametrize("depth", [8, 14, 20, 26, 98])
def test_every_6n_plus_2_is_built_with_that_many_weighted_layers(depth):
    model = models.build(ConfigDict(CONFIG | {"depth": depth}), 10)
    assert 2 * sum(model.stage_sizes) + 2 == depth
