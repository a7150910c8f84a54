"""Operations in float64, exact to 1e-10, against the old nets and against nets written in numpy."""

import functools

import jax
import numpy as np
import pytest

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.surgery import OPERATIONS, EditableNet, check, convert, edit, fold, logits_of, merge, open_net
from resnet_jax.surgery.convert import to_plain, to_residual
from resnet_jax.surgery.fold import fold_norms
from tests.surgery.nets import IMAGES, by_hand, convolution, random_net

pytestmark = pytest.mark.usefixtures("eager_float64")

close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)


def assert_computes(net, expected):
    """Assert that ``net`` has the ``expected`` logits and outputs of blocks."""
    [(logits, blocks)] = check.forward(net, IMAGES)
    assert logits.dtype == np.float64
    close(logits, expected[0])
    assert list(blocks) == list(expected[1]) == net.blocks
    for name, output in expected[1].items():
        close(blocks[name], output)


BLOCKS_AND_SHORTCUTS = [(block, shortcut) for block in ("basic", "single") for shortcut in "ABC"]


CONVERTED = [*BLOCKS_AND_SHORTCUTS, ("basic", "pool"), ("single", "conv")]


@pytest.mark.parametrize(("block", "shortcut"), CONVERTED)
def test_a_residual_net_is_the_net_by_hand_and_so_is_its_plain_net(block, shortcut):
    widening = 1.5 if shortcut == "pool" else 1  # Then the stem's output is padded too.
    net = random_net(block=block, shortcut=shortcut, widening=widening, norm="none" if shortcut == "B" else "batch")
    expected = by_hand(net)
    assert_computes(net, expected)
    plain = to_plain(net)
    assert (plain.config.residual, plain.config.norm, plain.config.reserve) == (False, "none", block == "basic")
    assert_computes(plain, expected)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"shortcut": "B", "depth": 14, "block": "single"},
        {"shortcut": "C", "order": "relu_before_addition"},
        {"shortcut": "conv", "order": "relu_preactivation"},
        {"block": "bottleneck", "depth": 11, "shortcut": "B"},
        {"shortcut": "exclusive_gating"},
        {"survival": 0.5, "reserve": True},
    ],
    ids=str,
)
def test_a_folded_net_has_no_norms_and_computes_the_same(fields):
    net = random_net(**fields)
    folded = fold_norms(net)
    assert folded.config.norm == "none"
    assert {path[-1] for path in folded.leaves} == {"kernel", "bias"}
    [expected] = check.forward(net, IMAGES)
    assert_computes(folded, expected)


@pytest.mark.parametrize("block", ["basic", "single"])
def test_a_plain_net_is_a_residual_net(block):
    net = random_net(block=block, residual=False, shortcut="B")
    residual = to_residual(net)
    assert residual.config.residual
    assert (residual.config.norm, residual.config.shortcut, residual.config.reserve) == ("none", "A", block == "basic")
    assert_computes(residual, by_hand(net))


def test_the_branches_of_a_repvgg_net_are_merged():
    net = random_net(block="repvgg")
    new, message, compared_with, differences = OPERATIONS["merge_branches"].apply(net, IMAGES)
    assert (new.config.block, new.config.residual, new.config.norm) == ("single", False, "none")
    assert message == "The branches of repvgg residual-8 were merged; it is single plain-8 now."
    assert compared_with == "the old net"
    assert max(differences) < 1e-10


def test_a_merged_block_is_the_sum_of_its_three_branches():
    net = random_net(block="repvgg")
    block = ("stage1", "block0")
    own = {path[3:]: leaf for path, leaf in net.leaves.items() if path[1:3] == block}

    def normed(x, *norm):
        scale, bias, mean, var = (own[*norm, leaf] for leaf in ("scale", "bias", "mean", "var"))
        return scale * (x - mean) / np.sqrt(var + 1e-5) + bias

    x = np.random.default_rng(1).normal(size=(2, 5, 5, 16))
    expected = normed(convolution(x, own["conv1", "kernel"], 1), "bn1") + normed(x, "identity")
    expected += normed(convolution(x, own["shortcut", "conv", "kernel"], 1), "shortcut", "bn")
    kernel, bias = merge.merged_block(net.leaves, block, "conv1", "bn1")
    close(convolution(x, kernel, 1) + bias, expected)


def test_a_folded_norm_is_scaled_by_its_running_deviation():
    net = random_net()
    layer = ("stage1", "block0", "bn1")
    scale, bias = (net.leaves["params", *layer, name] for name in ("scale", "bias"))
    mean, var = (net.leaves["batch_stats", *layer, name] for name in ("mean", "var"))
    kernel, offset = fold.folded(np.ones((1, 1, 2, 16)), net.leaves, layer)
    close(kernel, np.broadcast_to(scale / np.sqrt(var + 1e-5), (1, 1, 2, 16)))
    x = np.random.default_rng(1).normal(size=(4, 2))
    close(x @ kernel[0, 0] + offset, scale * (x @ np.ones((2, 16)) - mean) / np.sqrt(var + 1e-5) + bias)


@pytest.mark.parametrize(("shortcut", "pools"), [("A", False), ("B", False), ("conv", False), ("pool", True)])
def test_a_shortcut_is_a_convolution_of_3x3(shortcut, pools):
    leaves = (
        fold_norms(random_net(shortcut=shortcut)).leaves if shortcut != "conv" else random_net(shortcut="conv").leaves
    )
    block = ("params", "stage2", "block0")
    x = np.random.default_rng(1).normal(size=(2, 8, 8, 16))
    taps, mixing, bias = convert.shortcut_of(leaves, block, 2, pools)
    found = convolution(x, convert.kernel_of(taps, mixing), 2) + bias
    if shortcut in ("B", "conv"):
        expected = x[:, ::2, ::2] @ leaves[*block, "shortcut", "conv", "kernel"][0, 0]
        expected += leaves.get((*block, "shortcut", "bn", "bias"), 0)
    elif pools:
        expected = np.pad(x.reshape(2, 4, 2, 4, 2, 16).mean((2, 4)), ((0, 0), (0, 0), (0, 0), (0, 16)))
    else:
        expected = np.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (8, 8)))
    close(found, expected)


SETTINGS = {
    "fold_norms": ({}, {}),
    "to_plain": ({}, {}),
    "to_residual": ({"residual": False}, {}),
    "merge_branches": ({"block": "repvgg"}, {}),
    "insert_identity": ({}, {"depth": 14}),
    "delete": ({"residual": False}, {"blocks": ["stage1/block0"]}),
    "permute": ({"depth": 14, "block": "single"}, {"blocks": ["stage1/block1", "stage1/block3"]}),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_new_net_has_the_variables_of_its_config_in_the_type_of_the_old(name, monkeypatch):
    monkeypatch.setattr(check, "compare", lambda *_: None)
    monkeypatch.setattr(check, "compare_with_gates", lambda *_: None)
    monkeypatch.setattr(check, "moments", lambda net, images, names: dict.fromkeys(names, (np.zeros(16), np.ones(16))))
    fields, settings = SETTINGS[name]
    net = random_net(**fields)
    net = net._replace(variables=jax.tree.map(np.float32, net.variables))
    before = jax.tree.map(np.copy, net.variables)
    new = OPERATIONS[name].apply(net, IMAGES, **settings).net
    like = models.template(models.build(new.config, 10), (8, 8, 1))
    assert jax.tree.map(np.shape, new.variables) == jax.tree.map(np.shape, like)
    assert {leaf.dtype for leaf in new.leaves.values()} == {np.dtype(np.float32)}
    jax.tree.map(np.testing.assert_array_equal, net.variables, before)


def test_reserve_and_merge_takes_as_many_numbers_as_counted_by_hand():
    """Of residual-20 on the digits, kernels and biases without the head.

    Hidden layers get twice their width, in the first blocks of stages 2 and 3 half as much again.
    """
    folded = fold_norms(random_net(depth=20))
    counts = [
        sum(leaf.size for path, leaf in net.leaves.items() if path[1] != "head") for net in (folded, to_plain(folded))
    ]
    assert counts == [268_096, 501_088]


INSERTIONS = [
    ({"residual": False}, 14),
    pytest.param({"residual": False, "depth": 14}, 20, marks=pytest.mark.slow),
    ({"residual": False, "block": "single"}, 14),
    ({"residual": False, "norm": "none"}, 14),
    pytest.param({"residual": False, "reserve": True}, 14, marks=pytest.mark.slow),
    ({}, 14),
    pytest.param({"shortcut": "B", "norm": "group"}, 14, marks=pytest.mark.slow),
    ({"shortcut": "pool", "norm": "none"}, 14),
    ({"order": "relu_before_addition"}, 14),
    ({"order": "relu_preactivation"}, 14),
    ({"order": "preactivation", "block": "single"}, 14),
    pytest.param(
        {"order": "preactivation", "block": "bottleneck", "depth": 11, "shortcut": "B"}, 20, marks=pytest.mark.slow
    ),
    ({"family": "wide", "depth": 10}, 16),
]


@pytest.mark.parametrize(("fields", "depth"), INSERTIONS, ids=str)
def test_inserted_blocks_change_nothing(fields, depth):
    net = random_net(**fields)
    outcome = OPERATIONS["insert_identity"].apply(net, IMAGES, depth=depth)
    assert outcome.net.config.depth == depth
    assert outcome.net.config.to_dict() == net.config.to_dict() | {"depth": depth}
    assert outcome.differences.logits < 1e-10
    assert outcome.differences.blocks < 1e-10
    leaves = outcome.net.leaves
    for path, leaf in net.leaves.items():
        np.testing.assert_array_equal(leaves[path], leaf)


def test_inserted_batch_norms_have_the_statistics_of_the_stage_and_undo_them():
    net = random_net(residual=False)
    new = OPERATIONS["insert_identity"].apply(net, IMAGES, depth=14).net
    _, outputs = by_hand(net)
    for stage in (1, 2, 3):
        output = outputs[f"stage{stage}/block0"]
        mean, var = output.mean((0, 1, 2)), output.var((0, 1, 2))
        for layer in ("bn1", "bn2"):
            path = (f"stage{stage}", "block1", layer)
            close(new.leaves["batch_stats", *path, "mean"], mean)
            close(new.leaves["batch_stats", *path, "var"], var)
            close(new.leaves["params", *path, "scale"] ** 2, var + 1e-5)
            close(new.leaves["params", *path, "bias"], mean)


def test_inserted_blocks_of_a_residual_net_are_drawn_but_for_the_last_layer_of_their_branch():
    net = random_net()
    new = edit.insert_identity(net, 14, seed=3)
    drawn = models.unstack(models.initial_variables(new.model, 3, (8, 8, 1)))
    own = {path: leaf for path, leaf in new.leaves.items() if path[2] == "block1"}
    assert len(own) == 3 * 10
    for path, leaf in own.items():
        zeroed = path[3:] in (("bn2", "scale"), ("bn2", "bias"))
        np.testing.assert_array_equal(leaf, 0 if zeroed else drawn[path])


def test_only_the_kernels_of_named_blocks_get_noise():
    net = random_net(residual=False)
    noisy = edit.with_noise(net, ["stage2/block0"], 0.1).leaves
    changed = {path[1:-1] for path, leaf in net.leaves.items() if np.any(noisy[path] != leaf)}
    assert changed == {("stage2", "block0", "conv1"), ("stage2", "block0", "conv2")}


def test_reserved_channels_of_an_inserted_block_have_statistics_of_zero():
    net = random_net(residual=False, reserve=True)
    moments = {"stage1/block0": (np.full(16, 2.0), np.full(16, 4.0))}
    leaves = edit.with_statistics(net, moments).leaves
    layer = ("stage1", "block0", "bn1")
    assert leaves["params", *layer, "scale"].shape == (32,)
    close(leaves["batch_stats", *layer, "mean"], [2] * 16 + [0] * 16)
    close(leaves["params", *layer, "scale"], np.sqrt([4 + 1e-5] * 16 + [1e-5] * 16))
    untouched = ("batch_stats", "stage2", "block0", "bn1", "mean")
    close(leaves[untouched], net.leaves[untouched])


def test_imagenet_nets_are_made_deeper_to_the_depths_of_the_paper():
    config = models.complete({"family": "imagenet", "depth": 18, "residual": False})
    net = EditableNet(config, jax.tree.map(np.array, models.template(models.build(config, 10), (32, 32, 3))))
    new = edit.insert_identity(net, 34)
    assert edit.inserted_blocks(net, new) == [
        *("stage1/block2", "stage2/block2", "stage2/block3"),
        *(f"stage3/block{block}" for block in (2, 3, 4, 5)),
        "stage4/block2",
    ]


def test_noise_has_the_requested_size_and_depends_on_the_seed():
    net = random_net(residual=False)
    new = edit.insert_identity(net, 14)
    names = edit.inserted_blocks(net, new)
    noisy, again, other = (edit.with_noise(new, names, 0.1, seed) for seed in (0, 0, 1))
    path = ("params", "stage3", "block1", "conv2", "kernel")
    assert np.std(noisy.leaves[path] - new.leaves[path]) == pytest.approx(0.1 * np.sqrt(2 / (9 * 64)), rel=0.02)
    np.testing.assert_array_equal(noisy.leaves[path], again.leaves[path])
    assert np.any(noisy.leaves[path] != other.leaves[path])
    for kept in net.leaves:
        np.testing.assert_array_equal(noisy.leaves[kept], net.leaves[kept])


def test_nets_are_compared_before_the_noise():
    net = random_net(residual=False)
    outcome = OPERATIONS["insert_identity"].apply(net, IMAGES, depth=14, noise=0.1)
    assert outcome.compared_with == "the old net, before the noise"
    assert outcome.differences.logits < 1e-10
    assert (
        outcome.message == "3 identity blocks were inserted into plain-8, and noise of size 0.1 added to their kernels."
    )
    assert np.max(np.abs(logits_of(outcome.net, IMAGES) - by_hand(net)[0])) > 1e-3


@pytest.mark.parametrize(
    ("fields", "deleted"),
    [
        ({"depth": 14}, ["stage1/block0", "stage2/block0", "stage3/block1"]),
        ({"norm": "none", "shortcut": "B"}, ["stage2/block0"]),
        ({"norm": "group", "shortcut": "shortcut_gating"}, ["stage3/block0"]),
        ({"order": "relu_before_addition"}, ["stage2/block0"]),
        ({"order": "relu_preactivation", "shortcut": "conv"}, ["stage2/block0"]),
        ({"order": "preactivation", "block": "bottleneck", "depth": 11, "shortcut": "B"}, ["stage2/block0"]),
        ({"survival": 0.5}, ["stage2/block0"]),
        ({"residual": False, "depth": 14}, ["stage1/block0", "stage2/block1", "stage3/block1"]),
        ({"residual": False, "norm": "none", "block": "single"}, ["stage1/block0", "stage2/block1"]),
    ],
    ids=str,
)
def test_a_deleted_block_is_as_its_gate_deletes_it(fields, deleted):
    net = random_net(**fields)
    outcome = OPERATIONS["delete"].apply(net, IMAGES, blocks=deleted)
    assert outcome.differences.logits < 1e-10
    assert outcome.net.config == net.config
    changed = {"/".join(path[1:3]) for path, leaf in outcome.net.leaves.items() if np.any(leaf != net.leaves[path])}
    assert changed == {*deleted}


def test_a_block_deleted_in_a_plain_net_passes_on_its_input_and_has_its_statistics():
    net = random_net(residual=False, depth=14)
    outcome = OPERATIONS["delete"].apply(net, IMAGES, blocks=["stage2/block1"])
    assert outcome.message == (
        "Blocks deleted from plain-14, where the output of each is now its input: stage2/block1."
    )
    _, outputs = by_hand(outcome.net)
    close(outputs["stage2/block1"], outputs["stage2/block0"])
    close(
        outcome.net.leaves["batch_stats", "stage2", "block1", "bn2", "mean"],
        by_hand(net)[1]["stage2/block0"].mean((0, 1, 2)),
    )


def test_a_block_deleted_in_a_residual_net_is_its_shortcut():
    outcome = OPERATIONS["delete"].apply(random_net(), IMAGES, blocks=["stage2/block0"])
    assert outcome.message.endswith("where the output of each is now its shortcut: stage2/block0.")
    _, outputs = by_hand(outcome.net)
    padded = np.pad(outputs["stage1/block0"][:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (8, 8)))
    close(outputs["stage2/block0"], padded)


def test_two_exchanges_change_nothing_and_one_does():
    net = random_net(depth=20)
    blocks = ["stage2/block2", "stage2/block1"]
    new = OPERATIONS["permute"].apply(net, IMAGES, blocks=blocks).net
    for name in ("mean", "var"):
        one, other = (
            each.leaves["batch_stats", "stage2", f"block{block}", "bn1", name] for each, block in ((net, 1), (new, 2))
        )
        np.testing.assert_array_equal(one, other)
    jax.tree.map(np.testing.assert_array_equal, edit.permute(new, blocks[::-1]).variables, net.variables)


def test_an_exchange_computes_another_function_and_promises_nothing():
    net = random_net(depth=14, block="single")
    outcome = OPERATIONS["permute"].apply(net, IMAGES, blocks=["stage1/block1", "stage1/block3"])
    assert outcome.message == "Blocks exchanged in single residual-14: stage1/block1 and stage1/block3."
    assert (outcome.compared_with, outcome.differences) == (None, None)
    expected, _ = by_hand(outcome.net)
    assert np.max(np.abs(expected - by_hand(net)[0])) > 1e-3


REFUSED = [
    (
        lambda net: OPERATIONS["merge_branches"].apply(net, IMAGES),
        {},
        r"residual-8 has no branches to merge; give a net of config\.model\.block='repvgg'\.",
    ),
    (
        fold_norms,
        {"norm": "group"},
        r"fold_norms is not exact for residual-8 with config\.model\.norm='group'; it needs 'batch'\.",
    ),
    (
        fold_norms,
        {"order": "preactivation"},
        r"config\.model\.order='preactivation'; it needs 'original' or 'relu_before",
    ),
    (
        fold_norms,
        {"block": "repvgg"},
        r"fold_norms is not exact for .* with config\.model\.block='repvgg'; it needs 'ba",
    ),
    (to_plain, {"branch_scaling": "rezero"}, r"to_plain is not exact for .*branch_scaling='rezero'; it needs 'none'\."),
    (fold_norms, {"parametrization": "dirac"}, r"config\.model\.parametrization='dirac'; it needs 'free'\."),
    (
        to_plain,
        {"residual": False},
        r"to_plain is not exact for plain-8 with config\.model\.residual=False; it needs True\.",
    ),
    (to_plain, {"order": "preactivation"}, r"order='preactivation'; it needs 'original'\."),
    (to_plain, {"shortcut": "shortcut_gating"}, r"shortcut='shortcut_gating'; it needs 'A' or 'B' or 'C' or"),
    (to_plain, {"survival": 0.5}, r"survival=0\.5; it needs 1\."),
    (to_plain, {"reserve": True}, r"reserve=True; it needs False\."),
    (
        to_plain,
        {"block": "bottleneck", "depth": 11},
        r"bottleneck residual-11 has bottlenecks; use a net of block basic or",
    ),
    (to_residual, {}, r"to_residual is not exact for residual-8 with config\.model\.residual=True; it needs False\."),
    (
        functools.partial(edit.insert_identity, depth=8),
        {},
        r"--depth=8 is not a deeper net of the blocks of residual-8;",
    ),
    (functools.partial(edit.insert_identity, depth=15), {}, r"depth=15 is not 6n\+2"),
    (functools.partial(edit.insert_identity, depth=14), {"shortcut": "C"}, r"shortcut='C'; it needs 'A' or 'B' or"),
    (
        functools.partial(edit.insert_identity, depth=14),
        {"order": "norm_after_addition"},
        r"order='norm_after_addition'",
    ),
    (
        functools.partial(edit.insert_identity, depth=14),
        {"residual": False, "order": "preactivation"},
        r"it needs 'orig",
    ),
    (
        functools.partial(edit.insert_identity, depth=14),
        {"residual": False, "norm": "group"},
        r"norm='group'; it needs",
    ),
    (
        functools.partial(edit.insert_identity, depth=20),
        {"residual": False, "block": "bottleneck", "depth": 11},
        r"cannot pass on four times",
    ),
    (
        functools.partial(edit.delete, names=["stage2/block9"]),
        {},
        r"residual-8 has no block 'stage2/block9'; its blocks are stage1/block0 to stage3/block0\.",
    ),
    (functools.partial(edit.delete, names=["stage1/block0"] * 2), {}, r"names a block twice; name each once\."),
    (
        functools.partial(edit.delete, names=["stage2/block0"]),
        {"residual": False},
        r"stage2/block0 of plain-8 changes the shape",
    ),
    (functools.partial(edit.delete, names=["stage1/block0"]), {"order": "norm_after_addition"}, r"delete is not exact"),
    (
        functools.partial(edit.permute, names=["stage1/block0"]),
        {},
        r"--blocks=stage1/block0 must be two blocks, e\.g\. ",
    ),
    (functools.partial(edit.permute, names=["stage1/block0", "stage2/block0"]), {}, r"are not two blocks of one stage"),
    (
        functools.partial(edit.permute, names=["stage2/block0", "stage2/block1"]),
        {"depth": 14},
        r"of equal shapes; the first",
    ),
]


@pytest.mark.parametrize(("operation", "fields", "message"), REFUSED)
def test_inexact_operations_are_refused(operation, fields, message):
    with pytest.raises(UserError, match=message):
        operation(random_net(**fields))


def test_noise_is_for_plain_nets():
    with pytest.raises(
        UserError, match=r"--noise=0\.1 is for plain nets; the kernels of blocks inserted into residual-8"
    ):
        OPERATIONS["insert_identity"].apply(random_net(), IMAGES, depth=14, noise=0.1)


def test_nets_without_such_blocks_and_gated_nets_are_refused():
    dense = models.complete({"family": "densenet", "depth": 40})
    with pytest.raises(UserError, match=r"x is DenseNet-40-12, but surgery is for plain and residual nets; use one of"):
        open_net("x", dense, {})
    with pytest.raises(UserError, match=r"x has config\.gates, which surgery would lose; use a net without gates\."):
        open_net("x", models.complete({}), {"params": {}, "gates": {}})
