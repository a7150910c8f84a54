"""From ``config.model`` to a net: depths, names, the fields that a net depends on."""

import pytest
from ml_collections import ConfigDict

from resnet_jax import models
from resnet_jax.errors import UserError

CONFIG = {"family": "cifar", "depth": 20, "residual": True}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": 21}, r"config\.model\.depth=21 is not 6n\+2.*20 and 26"),
        ({"depth": 2}, r"config\.model\.depth=2 is not 6n\+2.*smallest depth is 8"),
        ({"block": "bottleneck", "depth": 21, "order": "preactivation"}, r"depth=21 is not 9n\+2.*20 and 29"),
        ({"family": "wide", "depth": 20}, r"depth=20 is not 6n\+4.*16 and 22"),
        ({"family": "imagenet", "depth": 20}, r"config\.model\.depth=20 .* choose one of 18, 34, 50, 101, 152, 200"),
    ],
)
def test_a_depth_that_the_family_does_not_have_is_reported_with_those_near_it(wrong, message):
    with pytest.raises(UserError, match=message):
        models.build(CONFIG | wrong, 10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"survival": 0.5, "order": "norm_after_addition"},
            r"'norm_after_addition' needs config\.model\.survival=1, not 0\.5\.",
        ),
        (
            {"shortcut": "exclusive_gating", "order": "preactivation"},
            r"'exclusive_gating' needs config\.model\.order='original'",
        ),
        (
            {"stem_activation": False},
            r"stem_activation=False needs config\.model\.order='preactivation', not 'original'\.",
        ),
        ({"widening": 1.51}, r"widening=1\.51 makes widths .*24\.16.* that are not whole numbers\."),
        ({"family": "imagenet", "depth": 50, "widening": 1.001}, r"widening=1\.001 makes widths .* not whole numbers"),
        (
            {"reserve": True, "block": "single"},
            r"reserve=True needs config\.model\.block='basic', not 'single'\.",
        ),
    ],
)
def test_parts_that_do_not_go_together_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        models.build(CONFIG | wrong, 10)


@pytest.mark.parametrize("depth", [8, 14, 20, 26, 98])
def test_every_6n_plus_2_is_built_with_that_many_weighted_layers(depth):
    model = models.build(CONFIG | {"depth": depth}, 10)
    assert 2 * sum(model.stage_sizes) + 2 == depth


ALWAYS = {
    *("family", "depth", "residual", "widening", "norm", "dropout", "survival", "order"),
    *models.REMEDY_FIELDS,
}


@pytest.mark.parametrize(
    ("fields", "title", "series", "read"),
    [
        ({"residual": False}, "plain-20", "plain", {"block", "reserve"}),
        ({}, "residual-20", "residual", {"shortcut", "block", "reserve"}),
        (
            {"survival": 0.5, "shortcut": "shortcut_gating"},
            "residual-20",
            "residual",
            {"shortcut", "gating_bias", "survival_rule", "block", "reserve"},
        ),
        (
            {"order": "preactivation", "residual": False},
            "preact plain-20",
            "preact plain",
            {"stem_activation", "block", "reserve"},
        ),
        (
            {"order": "preactivation", "block": "bottleneck", "depth": 164},
            "preact bottleneck residual-164",
            "preact bottleneck residual",
            {"shortcut", "block", "stem_activation", "bottleneck_stride"},
        ),
        ({"block": "single"}, "single residual-20", "single residual", {"shortcut", "block"}),
        ({"family": "imagenet", "depth": 34}, "residual-34", "residual", {"shortcut", "reserve"}),
        (
            {"family": "imagenet", "depth": 50, "residual": False, "widening": 2},
            "plain-50-2",
            "plain-n-2",
            {"bottleneck_stride"},
        ),
    ],
)
def test_a_net_has_a_title_and_names_the_fields_it_depends_on(fields, title, series, read):
    model = CONFIG | fields
    assert models.title(model) == title
    assert models.series_title(model) == series
    assert set(models.fields_read(model)) == ALWAYS | read
    assert models.title(ConfigDict(model)) == models.title(model)


def test_a_wide_net_is_called_as_in_its_paper():
    model = {"family": "wide", "depth": 28, "residual": True, "widening": 10.0}
    assert (models.title(model), models.series_title(model)) == ("WRN-28-10", "WRN-n-10")
    assert set(models.fields_read(model)) == ALWAYS - {"order"} | {"survival"}
    assert models.title(model | {"residual": False}) == "plain WRN-28-10"


@pytest.mark.parametrize("fields", [{"residual": False}, {"depth": 26}, {"family": "imagenet", "depth": 18}])
def test_fields_that_a_net_does_not_read_change_nothing(fields):
    model = CONFIG | fields
    others = {"shortcut": "B", "bottleneck_stride": "middle"}
    changed = model | {name: value for name, value in others.items() if name not in models.fields_read(model)}
    assert changed != model
    nets = [models.build(each, 10) for each in (model, changed)]
    assert models.walk(nets[0], (32, 32, 3)) == models.walk(nets[1], (32, 32, 3))


@pytest.mark.parametrize("norm", ["group", "none"])
def test_the_norm_of_a_net_is_that_of_its_config(norm):
    model = models.build(CONFIG | {"depth": 8, "norm": norm}, 10)
    variables = models.template(model, (8, 8, 1))
    assert "batch_stats" not in variables
    assert ("scale" in variables["params"]["stage1"]["block0"]["bn1"]) == (norm == "group")


@pytest.mark.parametrize("residual", [True, False])
def test_hidden_layers_reserve_as_many_channels_as_their_block_has_inputs(residual):
    model = models.build(CONFIG | {"depth": 14, "reserve": True, "residual": residual}, 10)
    kernels = {
        layer.name: layer.variables["params", "kernel"].shape
        for layer in models.walk(model, (8, 8, 1))
        if layer.name.endswith(("conv1", "conv2"))
    }
    for stage, block, inputs, width in ((1, 0, 16, 16), (2, 0, 16, 32), (2, 1, 32, 32), (3, 0, 32, 64), (3, 1, 64, 64)):
        assert kernels[f"stage{stage}/block{block}/conv1"] == (3, 3, inputs, width + inputs)
        assert kernels[f"stage{stage}/block{block}/conv2"] == (3, 3, width + inputs, width)
