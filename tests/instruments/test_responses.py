"""Deviations of layer responses, compared with the branches that a net computes."""

import numpy as np
import pytest

from configs import recipes
from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.instruments import Images, Settings, Subject, net_of, responses
from tests.instruments.subjects import SHAPE, faultless_subject, noise

pytestmark = pytest.mark.usefixtures("eager")


def initial(**fields):
    """Return a subject that was never trained, without images."""
    net = net_of(recipes.digits(**{"depth": 8, "residual": True} | fields).model, 10, SHAPE)
    none = Images(noise(0), np.zeros(0, int))
    return Subject(net, models.initial_variables(net.model, 0, SHAPE), 0, False, none, none, Settings())


@pytest.mark.parametrize("fields", [{}, {"block": "single", "residual": False}], ids=["two layers", "one layer"])
def test_the_last_deviation_of_a_block_is_its_branchs(fields):
    made, _ = faultless_subject(train=8, test=8, batch=8, **fields)
    result = responses.measure(made)
    last = {layer.rpartition("/")[0]: each for layer, each in zip(result["layers"], result["deviation"], strict=True)}
    for block, parts in made.net.parts(made.variables, made.batch.images, train=True):
        assert last[block.name] == pytest.approx(np.std(parts.branch), rel=1e-3)
    assert np.ptp(result["deviation"]) > 0.05


def test_an_untrained_net_has_responses_of_one():
    result = responses.measure(initial())
    blocks = ("stage1/block0", "stage2/block0", "stage3/block0")
    assert result == {"layers": [f"{block}/bn{layer}" for block in blocks for layer in (1, 2)], "deviation": [1] * 6}


@pytest.mark.parametrize(
    ("fields", "norms"),
    [
        ({"shortcut": "C"}, ["bn1", "bn2"]),
        ({"block": "repvgg"}, ["bn1", "bn1"]),
        ({"depth": 11, "block": "bottleneck", "shortcut": "B"}, ["bn1", "bn2", "bn3"]),
        ({"order": "preactivation"}, ["bn2"]),  # The stem has activated what the first block gets.
        ({"depth": 10, "family": "densenet", "growth": 4}, ["bn1", "bn1"]),
    ],
    ids=str,
)
def test_norms_of_shortcuts_and_between_stages_do_not_count(fields, norms):
    layers = responses.measure(initial(**fields))["layers"]
    assert [layer.split("/")[-1] for layer in layers if layer.startswith("stage1/")] == norms
    assert all(len(layer.split("/")) == 3 for layer in layers)


@pytest.mark.parametrize("norm", ["none", "group"])
def test_a_net_without_batch_norms_is_refused(norm):
    with pytest.raises(
        UserError, match=r"^the branches of residual-8 have no batch norms, from which their responses "
    ):
        responses.measure(initial(norm=norm))
