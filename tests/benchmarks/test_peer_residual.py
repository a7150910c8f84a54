"""Variants of residual nets agree with PyTorch nets that were written from the papers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import recipes
from resnet_jax import models
from resnet_jax.training import optimizer, step
from tests.benchmarks.peers import assert_same_tensors, quick

torch = pytest.importorskip("torch", reason="the peer needs PyTorch; make .venv/peer installs it")
peer = pytest.importorskip("benchmarks.peer_residual")

STEPS = 2  # Momentum acts in the second.
STAGES = 2  # The second has the stride.


def peer_of(units, **options):
    return peer.PeerResidualNet(units, widths=(16, 32, 64)[:STAGES], **options)


def nets(units=1, residual=True, widening=1, **fields):
    """Return our net of ``fields`` of config.model, variables of no special value, and the peer with these."""
    layers = 9 if fields.get("block") == "bottleneck" else 3 if fields.get("block") == "single" else 6
    wide = {"family": "wide", "depth": 6 * units + 4, "widening": float(widening), "residual": residual}
    config = wide if not fields else fields | {"depth": layers * units + 2, "residual": residual}
    model = models.build(config, 10)
    sizes, widths = model.stage_sizes[:STAGES], model.widths[:STAGES]
    model = model.clone(stage_sizes=sizes, widths=widths)
    random = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        # Branches of about the size of their shortcuts.
        near, spread = (0.0, np.sqrt(2 / np.prod(leaf.shape[:-1]))) if name == "kernel" else (0.0, 0.2)
        near = 1.0 if name in ("scale", "var") else near
        return (near + spread * np.clip(random.standard_normal(leaf.shape), -3, 3)).astype(np.float32)

    variables = jax.tree.map_with_path(draw, models.template(model, (8, 8, 3)))
    options = {name: fields[name] for name in ("block", "order", "shortcut") if name in fields}
    if not fields:
        options = {"order": "preactivation", "shortcut": "B", "widening": widening}
    theirs = peer_of(units, **options | ({} if residual else {"shortcut": None}))
    theirs.load(variables)
    return model, variables, theirs


def batch():
    random = np.random.default_rng(1)
    images = random.normal(size=(8, 8, 8, 3)).astype(np.float32)
    labels = random.integers(0, 10, 8).astype(np.int32)
    return images, labels, torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels).long()


def evaluated(model, variables):
    images, *_ = batch()
    return quick(functools.partial(model.apply, train=False))(variables, images)


def assert_same_logits(ours, theirs):
    _, _, pixels, _ = batch()
    theirs.eval()
    with torch.no_grad():
        expected = theirs(pixels).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(expected).max() > 0.1


def assert_same_training(model, variables, theirs, key=None):
    """Compare logits, losses and, after the last step, parameters and running means."""
    images, labels, pixels, classes = batch()
    config = recipes.cifar(8, True).optimizer
    config.weight_decay = 0.01  # Enough to be seen.
    sgd = optimizer.descent(config, lambda count: 0.05)
    their_sgd = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=config.momentum, weight_decay=0.01)

    @quick
    def update(variables, opt_state):
        logits = model.apply(variables, images, train=False)
        loss_fn = functools.partial(step.loss_fn, model=model, key=key)
        compute = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (_, moved)), gradients = compute(variables["params"], variables["batch_stats"], images, labels)
        updates, opt_state = sgd.update(gradients, opt_state, variables["params"])
        return {"params": optax.apply_updates(variables["params"], updates), **moved}, opt_state, loss, logits

    opt_state = sgd.init(variables["params"])
    for number in range(STEPS):
        variables, opt_state, loss, logits = update(variables, opt_state)
        if number == 0:  # Later running variances differ.
            assert_same_logits(logits, theirs)
        np.testing.assert_allclose(loss, theirs.train_on(their_sgd, pixels, classes), rtol=1e-4)
    ours = peer.interop.to_torch(jax.device_get(variables), peer.NAMES)
    assert_same_tensors(ours, theirs.state_dict(), rtol=1e-3)


VARIANTS = {
    "norm after addition": {"order": "norm_after_addition"},
    "ReLU before addition": {"order": "relu_before_addition"},
    "ReLU-only pre-activation, option B": {"order": "relu_preactivation", "shortcut": "B"},
    "pre-activation": {"order": "preactivation", "shortcut": "A"},
    "plain pre-activation": {"order": "preactivation", "residual": False},
    "pre-activation, bottlenecks": {"order": "preactivation", "block": "bottleneck", "shortcut": "B"},
    "single, pre-activation": {"block": "single", "order": "preactivation", "units": 2},
    "exclusive gating": {"shortcut": "exclusive_gating"},
    "shortcut-only gating": {"shortcut": "shortcut_gating"},
    "1x1 convolutions": {"shortcut": "conv"},
    "wide": {"widening": 2},
}


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_from_the_same_weights_both_compute_the_same_logits_losses_and_updates(fields):
    assert_same_training(*nets(**fields))


SAME_PARTS = {
    "single": {"block": "single", "units": 2},
    "pooled identity": {"shortcut": "pool"},
    "dropout on shortcuts": {"shortcut": "dropout"},
    "ReLU-only pre-activation": {"order": "relu_preactivation"},
    "plain, norm after addition": {"order": "norm_after_addition", "residual": False},
    "pre-activation with projections everywhere": {"order": "preactivation", "shortcut": "C", "units": 2},
    "WRN-16-1": {"units": 2},
    "plain wide": {"widening": 2, "residual": False},
}


@pytest.mark.parametrize("fields", SAME_PARTS.values(), ids=SAME_PARTS)
def test_nets_whose_parts_are_trained_above_have_the_same_logits(fields):
    model, variables, theirs = nets(**fields)
    assert_same_logits(evaluated(model, variables), theirs)


def test_the_same_weights_in_another_order_or_with_another_shortcut_are_another_net():
    model, variables, _ = nets(order="original", shortcut="A")
    _, _, pixels, _ = batch()
    ours = evaluated(model, variables)
    for other in ({"order": "norm_after_addition"}, {"order": "relu_before_addition"}, {"shortcut": "pool"}):
        theirs = peer_of(1, **other).eval()
        theirs.load(variables)
        with torch.no_grad():
            assert np.abs(theirs(pixels).numpy() - ours).max() > 1e-2


@pytest.mark.parametrize("fields", [{"order": "original", "shortcut": "pool"}, {"order": "preactivation"}], ids=str)
def test_stochastic_depth_scales_branches_by_their_survival_and_drops_the_same_blocks(fields, monkeypatch):
    model, variables, theirs = nets(units=2, **fields)
    model = model.clone(survival=(0.9, 0.8, 0.7, 0.6))
    survives = np.array([True, False, False, True])  # The third takes the stride.
    probabilities = np.array(model.survival, np.float32)
    for unit, survival, kept in zip(theirs.units(), probabilities, survives, strict=True):
        unit.survival, unit.survives = float(survival), bool(kept)

    def drawn(key, probability):
        return jnp.any(jnp.isclose(probability, probabilities) & survives)  # Each block has its own.

    monkeypatch.setattr(jax.random, "bernoulli", drawn)
    assert_same_training(model, variables, theirs, jax.random.key(0))
