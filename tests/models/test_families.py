"""What fields describe no net."""

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
        ({"family": "vgg"}, r"config\.model\.family='vgg' is unknown; choose one of cifar, imagenet"),
        ({"shortcut": "D"}, r"config\.model\.shortcut='D' is unknown; choose one of A, B, C"),
        (
            {"bottleneck_stride": "last"},
            r"config\.model\.bottleneck_stride='last' is unknown; choose one of first, middle",
        ),
    ],
)
def test_a_field_that_describes_no_net_is_named_with_the_way_out(wrong, message):
    with pytest.raises(UserError, match=message):
        models.build(ConfigDict(CONFIG | wrong), 10)


def test_an_unknown_dtype_is_named():
    with pytest.raises(UserError, match=r"config\.dtype='float16' is unknown; choose one of float32, bfloat16"):
        models.build(ConfigDict(CONFIG), 10, dtype="float16")


@pytest.mark.parametrize("depth", [8, 14, 20, 26, 98])
def test_every_6n_plus_2_is_built_with_that_many_weighted_layers(depth):
    model = models.build(ConfigDict(CONFIG | {"depth": depth}), 10)
    assert 2 * sum(model.stage_sizes) + 2 == depth
