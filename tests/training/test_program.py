"""A compiled config gives the same numbers whatever the number of devices and the mapper."""

import functools

import jax
import numpy as np
import pytest

from resnet_jax import data, models
from resnet_jax.data import sampling
from resnet_jax.errors import UserError
from resnet_jax.models import gates as gates_of
from resnet_jax.training import feed, parallel
from resnet_jax.training.interventions import GateSchedule
from resnet_jax.training.program import build_net, evaluate, make_program
from tests.training.tiny import with_tiny_net

pytestmark = [pytest.mark.devices(8), pytest.mark.usefixtures("quick_compiling")]


@pytest.fixture
def tiny(config, registrations):
    return with_tiny_net(config)


@pytest.fixture
def augmented(tiny):
    tiny.data.padding = 1
    tiny.data.flip = True
    return tiny


def assert_close(tree, other, rtol=1e-3, atol=1e-5):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol), tree, other)


def program_and_examples(config, devices):
    mesh = parallel.device_mesh(jax.devices()[:devices])
    program = make_program(config, 10, mesh)
    dataset = data.load(config.data)
    examples, splits = feed.place(dataset, data.normalisation(dataset, config.data), config.seed, mesh)
    return program, examples._replace(**program.interventions((8, 8, 1))._asdict()), splits


def trajectory(config, devices, steps=3):
    """Return the losses of the first steps, the state after them and its figures on the test set."""
    program, examples, splits = program_and_examples(config, devices)
    indices = sampling.batch_indices(config.seed, range(steps), config.batch_size, len(splits["train"]))
    state, metrics = program.train_steps(program.init((8, 8, 1)), examples, indices)
    figures = evaluate(program, state, examples, sampling.evaluation_batches(splits["test"], 104))
    return np.asarray(metrics["loss"]), jax.device_get(state), figures


@pytest.mark.parametrize("mapper", ["shard_map", pytest.param("pmap", marks=pytest.mark.slow)])
def test_eight_devices_train_as_one_does_with_synchronised_batch_norm(augmented, mapper):
    augmented.batch_norm.sync = True
    augmented.parallel.mapper = mapper
    one, eight = (trajectory(augmented, devices) for devices in (1, 8))
    np.testing.assert_allclose(eight[0], one[0], rtol=1e-4)
    assert one[0][-1] != pytest.approx(one[0][0], rel=1e-2)
    assert_close(eight[1], one[1])
    assert eight[2] == pytest.approx(one[2], rel=1e-3)


def test_both_mappers_give_the_same_numbers_with_batch_norm_of_each_device(augmented):
    results = []
    for mapper in parallel.MAPPERS:
        augmented.parallel.mapper = mapper
        results.append(trajectory(augmented, 8))
    np.testing.assert_allclose(*(losses for losses, *_ in results), rtol=1e-5)
    assert_close(*(state for _, state, _ in results), rtol=1e-4)


@pytest.mark.slow
def test_devices_and_mappers_agree_on_an_average_by_rmsprop_of_divided_images(augmented):
    augmented.batch_norm.sync = True
    augmented.data.pad, augmented.data.mean, augmented.data.std = "reflect", "channel", "channel"
    augmented.optimizer.name, augmented.optimizer.average_decay = "rmsprop", 0.5
    one, two = (
        trajectory(augmented, devices) for devices, augmented.parallel.mapper in ((1, "shard_map"), (2, "pmap"))
    )
    np.testing.assert_allclose(two[0], one[0], rtol=1e-4)
    assert_close(two[1], one[1])
    assert two[2] == pytest.approx(one[2], rel=1e-3)


@pytest.mark.slow
def test_devices_and_mappers_draw_the_same_blocks_and_activations(config):
    config.batch_norm.sync = True
    config.model.survival = config.model.dropout = 0.5
    one, two = (trajectory(config, devices) for devices, config.parallel.mapper in ((1, "shard_map"), (2, "pmap")))
    np.testing.assert_allclose(two[0], one[0], rtol=1e-4)
    assert_close(two[1], one[1])
    assert two[2] == pytest.approx(one[2], rel=1e-3)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"frozen_below": "block1", "decay_vectors": False},
        {
            "name": "rmsprop",
            "average_decay": 0.5,
            "schedule": "plateau",
            "plateau_window": 1,
            "plateau_patience": 1,
        },
    ],
    ids=["momentum", "frozen", "average"],
)
def test_the_form_for_gpus_keeps_its_state_in_vectors_between_steps_and_computes_the_same(tiny, fields, monkeypatch):
    tiny.optimizer.update(fields)
    usual = trajectory(tiny, 2)
    monkeypatch.setattr(parallel, "platform", lambda mesh: "gpu")
    on_gpu = trajectory(tiny, 2)
    np.testing.assert_allclose(on_gpu[0], usual[0], rtol=1e-5)
    assert_close(on_gpu[1], usual[1], rtol=1e-4, atol=1e-6)
    program, examples, _ = program_and_examples(tiny, 2)
    lowered = program.train_steps.lower(program.init((8, 8, 1)), examples, np.zeros((2, 32), np.int32)).as_text()
    size = sum(leaf.size for leaf in jax.tree.leaves(usual[1].params))
    assert f"tensor<{size}xf32>" in lowered


@pytest.mark.parametrize(
    ("platform", "depth", "unroll", "loops"),
    [
        ("cpu", 14, None, True),
        ("gpu", 14, None, False),
        ("gpu", 14, False, True),
        ("cpu", 14, True, False),
        ("tpu", 14, None, False),
        ("tpu", 62, None, True),
        ("gpu", 62, None, False),
        ("gpu", 158, None, True),
    ],
)
def test_blocks_are_unrolled_where_the_platform_gains_by_it(config, platform, depth, unroll, loops):
    config.model.depth, config.compile.unroll = depth, unroll
    assert build_net(config, 10, platform).unroll is not loops


def test_without_synchronisation_two_devices_average_the_steps_that_each_would_make(tiny):
    tiny.optimizer.momentum = 0.0  # Then a step is linear in the gradient.
    indices = np.arange(32, dtype=np.int32)
    after = []
    for devices, share in ((2, indices), (1, indices[:16]), (1, indices[16:])):
        program, examples, _ = program_and_examples(tiny, devices)
        state, metrics = program.train_steps(program.init((8, 8, 1)), examples, share[None])
        after.append(jax.device_get((state.params, state.batch_stats, metrics)))
    both, *single = after
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *single)
    assert_close(both, mean, rtol=1e-4, atol=1e-6)
    differs = jax.tree.map(lambda a, b: np.any(a != b), *(batch_stats for _, batch_stats, _ in single))
    assert all(jax.tree.leaves(differs))


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000, 2**31 - 1])
def test_evaluation_counts_every_example_once_whatever_the_batch_and_the_devices(tiny, batch_size):
    program, examples, splits = program_and_examples(tiny, 8)
    state = program.init((8, 8, 1))
    if batch_size == 1:
        splits = {"test": splits["test"][:19]}
    size = sampling.evaluation_size(batch_size, len(examples.labels), 8)
    figures = evaluate(program, state, examples, sampling.evaluation_batches(splits["test"], size))
    part = slice(splits["test"].start, splits["test"].stop)
    images = np.asarray(examples.images)[part].reshape(-1, 8, 8, 1).astype(np.float32) / 255 - np.asarray(examples.mean)

    logits = program.model.clone(axis_name=None).apply(
        {"params": state.params, "batch_stats": state.batch_stats}, images, train=False
    )
    logits = np.asarray(logits, np.float64)
    labels = np.asarray(examples.labels[part])
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    assert figures["error"] == np.mean(logits.argmax(1) != labels)
    assert figures["loss"] == pytest.approx(-np.mean(np.log(probabilities[np.arange(len(labels)), labels])), rel=1e-5)


def test_a_batch_that_the_devices_cannot_share_is_refused(config):
    config.batch_size = 36
    with pytest.raises(
        UserError, match=r"config\.batch_size=36 cannot be divided among 8 devices; give a multiple of 8"
    ):
        make_program(config, 10)


def test_a_compiled_dispatch_talks_to_no_host(tiny):
    program, examples, splits = program_and_examples(tiny, 8)
    indices = sampling.batch_indices(tiny.seed, range(5), tiny.batch_size, len(splits["train"]))
    compiled = program.train_steps.lower(program.init((8, 8, 1)), examples, indices).compile().as_text()
    assert "while" in compiled
    for operation in ("infeed", "outfeed", "send(", "recv(", "callback", "host_"):
        assert operation not in compiled


def test_a_run_with_another_seed_needs_no_other_program(augmented):
    def lowered():
        program, examples, _ = program_and_examples(augmented, 8)
        indices = np.zeros((1, 32), np.int32)
        return program.train_steps.lower(program.init((8, 8, 1)), examples, indices).as_text()

    first = lowered()
    augmented.seed = 1
    assert lowered() == first


def test_forms_that_depend_on_the_platform_follow_the_devices_of_the_mesh(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert parallel.platform(parallel.device_mesh()) == "cpu"


@pytest.mark.slow
@pytest.mark.parametrize("mapper", parallel.MAPPERS)
def test_with_the_gates_of_a_plain_net_the_residual_program_trains_and_evaluates_the_plain_net(config, mapper):
    config.parallel.mapper = mapper
    residual, examples, splits = program_and_examples(config, 2)
    config.model.residual = False
    plain, *_ = program_and_examples(config, 2)
    gates = models.gate_blocks(residual.model, (8, 8, 1), gates_of.PLAIN)
    schedule = GateSchedule(gates, gates, np.float32(0), np.float32(1))
    gated = examples._replace(gates=parallel.replicate(schedule, residual.mesh))
    indices = sampling.batch_indices(config.seed, range(3), config.batch_size, len(splits["train"]))
    found = []
    for program, inputs in ((residual, gated), (plain, examples), (residual, examples)):
        state, metrics = program.train_steps(program.init((8, 8, 1)), inputs, indices)
        figures = evaluate(program, state, inputs, sampling.evaluation_batches(splits["test"], 104))
        found.append((np.asarray(metrics["loss"]), figures["loss"]))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)
    assert found[2][1] != pytest.approx(found[1][1], rel=1e-2)
