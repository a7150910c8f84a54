"""The loss that everything differentiates, and what a step passes to it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resnet_jax.training import parallel
from resnet_jax.training.interventions import GateSchedule
from resnet_jax.training.step import (
    DeviceAugmentation,
    StepInputs,
    TrainState,
    eval_step,
    loss_fn,
    train_step,
    training_batch,
)


class Gated(nn.Module):
    """A linear net whose logits are scaled by a gate, where it is given one."""

    @nn.compact
    def __call__(self, images, train):
        statistic = self.variable("batch_stats", "calls", lambda: jnp.zeros(()))
        if train:
            statistic.value = statistic.value + 1
        logits = nn.Dense(3)(images.reshape(len(images), -1))
        gate = self.get_variable("gates", "gain") if self.has_variable("gates", "gain") else 1.0
        return logits * gate


@pytest.fixture
def net():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (16, 2, 2, 1), dtype=np.uint8)
    labels = random.integers(0, 3, 16).astype(np.int32)
    model = Gated()
    variables = model.init(jax.random.key(0), jnp.zeros((1, 2, 2, 1)), train=False)
    return model, variables["params"], variables["batch_stats"], images, labels


def test_the_loss_is_the_mean_cross_entropy_and_comes_with_error_and_updates(net):
    model, params, batch_stats, images, labels = net
    pixels = images / np.float32(255)
    loss, (error, updates) = loss_fn(params, batch_stats, pixels, labels, model=model)
    logits = pixels.reshape(16, -1) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"][None]
    assert loss == pytest.approx(optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean())
    assert error == np.mean(logits.argmax(1) != labels)
    assert updates == {"batch_stats": {"calls": 1}}


def test_further_collections_and_options_reach_the_net(net):
    model, params, batch_stats, images, labels = net
    mutable = ("batch_stats", "intermediates")
    _, (_, updates) = loss_fn(
        params,
        batch_stats,
        images / np.float32(255),
        labels,
        model=model,
        gates={"gain": jnp.float32(0)},
        mutable=mutable,
        capture_intermediates=True,
    )
    assert updates.keys() == set(mutable)
    assert np.all(updates["intermediates"]["__call__"][0] == 0)
    assert np.any(updates["intermediates"]["Dense_0"]["__call__"][0] != 0)


def test_a_batch_is_divided_by_the_standard_deviation_and_so_is_its_colour_noise():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)
    mean, std = np.full((4, 4, 3), 0.5, np.float32), np.array([[[0.1, 0.2, 0.4]]], np.float32)
    augmentation = DeviceAugmentation(padding=2, flip=True, color_noise=0.1, pad="reflect")
    mesh = parallel.device_mesh(jax.devices()[:1])

    def batch(inputs, indices):
        return training_batch(inputs, indices, np.int32(3), augmentation)

    mapped = parallel.map_over_devices(lambda _, *rest: batch(*rest), mesh, "pmap", batch_arguments=1)
    inputs = StepInputs(images.reshape(8, -1), np.zeros(8, np.int32), mean, np.uint32(0))
    (centred, _), (divided, _) = (
        mapped(np.zeros(()), each, np.arange(8, dtype=np.int32)) for each in (inputs, inputs._replace(std=std))
    )
    assert np.asarray(centred).std() > 0.2
    np.testing.assert_allclose(divided, centred / std[None], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mapper", parallel.MAPPERS)
def test_gates_are_arguments_of_the_program_in_training_and_evaluation(net, mapper):
    model, params, batch_stats, images, labels = net
    mesh = parallel.device_mesh(jax.devices()[:2])
    sgd = optax.chain(optax.sgd(0.1))
    state = parallel.replicate(TrainState(np.int32(0), params, batch_stats, sgd.init(params)), mesh)

    def train(state, examples, batch):
        augmentation = DeviceAugmentation(0, False, 0.0)
        return train_step(
            state, examples, batch, model=model, optimizer=sgd, augmentation=augmentation, sync_batch_norm=False
        )

    def evaluate(state, examples, batch, weights):
        return eval_step(state, examples, batch, weights, model=model)

    trained = parallel.map_over_devices(train, mesh, mapper, batch_arguments=1)
    evaluated = parallel.map_over_devices(evaluate, mesh, mapper, batch_arguments=2)
    batch = np.arange(16, dtype=np.int32)
    found = {}
    for name, gates in (("static", None), ("one", 1.0), ("zero", 0.0)):
        if gates is not None:
            gain = {"gain": np.float32(gates)}
            gates = GateSchedule(gain, gain, np.float32(0), np.float32(1))
        mean = np.zeros(images.shape[1:], np.float32)
        inputs = StepInputs(images.reshape(len(images), -1), labels, mean, np.uint32(0), gates)
        examples = parallel.replicate(inputs, mesh)
        _, metrics = trained(state, examples, batch)
        sums = evaluated(state, examples, batch, np.ones(16, np.float32))
        found[name] = float(metrics["loss"]), float(sums["loss"]) / 16
    assert found["static"] == found["one"]
    assert found["zero"] == pytest.approx((np.log(3), np.log(3)))
    assert found["static"] != pytest.approx(found["zero"], rel=1e-3)
