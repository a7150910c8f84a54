"""The peers of the Inception nets compute what this project computes."""

import jax
import numpy as np
import pytest

from configs import recipes
from resnet_jax import data, models
from resnet_jax.models.zoo import inception
from resnet_jax.training import feed, parallel
from resnet_jax.training.program import make_program
from tests.benchmarks.peers import assert_same_tensors, quick, quickly, torch

peer = pytest.importorskip("benchmarks.peer")
peer_inception = pytest.importorskip("benchmarks.peer_inception")


def images(shape):
    return np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)


def logits(net, x):
    with torch.no_grad():
        return net(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()


@pytest.mark.slow
@pytest.mark.parametrize(("residual", "blocks"), [(False, 1), (True, 2)], ids=["plain", "residual"])
def test_from_the_same_weights_both_compute_the_same_logits_loss_and_update(residual, blocks):
    """Two stages of the small net, updated by SGD with weight decay."""
    shape, rate, decay, scale = (8, 8, 1), 0.1, 1e-4, 0.3
    table = inception.small_net(blocks, 8)
    table = table._replace(stages=table.stages[:2])
    model = inception.Inception(table, 10, residual, residual_scale=scale)
    variables = models.initial_variables(model, 0, shape)
    x, labels = images(shape), np.arange(4)

    def peer_of(variables):
        text = peer_inception.small(8)
        text = text._replace(blocks=text.blocks[:2], reductions=text.reductions[:1])
        net = peer_inception.PeerInception(text, (blocks,) * 2, (scale if residual else None,) * 2, True, 1, eps=1e-5)
        net.load(model, variables, shape)
        return net

    @quick
    def step(params):
        def loss(params):
            whole = {**variables, "params": params}
            logits, updates = model.apply(whole, x, train=True, mutable=["batch_stats"])
            return -jax.nn.log_softmax(logits)[np.arange(4), labels].mean(), (logits, updates)

        (value, (logits, updates)), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        after = jax.tree.map(lambda p, g: p - rate * (g + decay * p), params, gradients)
        return value, logits, {"params": after, **updates}, model.apply(variables, x, train=False)

    value, ours, after, evaluated = step(variables["params"])
    net = peer_of(variables)
    np.testing.assert_allclose(evaluated, logits(net.eval(), x), rtol=1e-4, atol=1e-4)
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, weight_decay=decay)
    theirs = net(torch.from_numpy(x).permute(0, 3, 1, 2))
    loss = torch.nn.functional.cross_entropy(theirs, torch.from_numpy(labels))
    loss.backward()
    optimizer.step()
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    assert_same_tensors(peer_of(jax.device_get(after)).state_dict(), net.state_dict(), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
def test_a_step_of_a_run_is_a_step_of_the_peer(residual):
    config = recipes.digits(32, residual, family="inception")
    config.optimizer.learning_rate = 0.1
    config.batch_size = 16
    mesh = parallel.device_mesh(jax.devices()[:1])
    program = make_program(config, 10, mesh)
    dataset = data.load(config.data)
    train = dataset.splits["train"]
    examples, _ = feed.place(dataset, data.normalisation(dataset, config.data), config.seed, mesh)
    state = program.init((8, 8, 1))

    def peer_of(state):
        scales = (1.0 if residual else None,) * 3
        net = peer_inception.PeerInception(peer_inception.small(16), (2, 2, 2), scales, True, channels=1, eps=1e-5)
        variables = jax.device_get({"params": state.params, "batch_stats": state.batch_stats})
        net.load(program.model, variables, (8, 8, 1))
        return net

    net = peer_of(state)
    mean = np.asarray(examples.mean)
    step = peer.make_step(net, train.images, train.labels, mean, padding=0, flip=False, mixed=False)
    indices = np.arange(16, dtype=np.int32)
    loss = step(indices)
    after, metrics = quickly(program.train_steps, state, examples, indices[None])
    np.testing.assert_allclose(metrics["loss"][0], loss.item(), rtol=1e-4)
    assert_same_tensors(peer_of(after).state_dict(), net.state_dict(), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["inception_resnet_v1", "inception_resnet_v2_paper"])
def test_the_nets_of_the_paper_compute_the_same_logits(family):
    net, _ = inception.IMAGENET_NETS[family]
    model = models.build({"family": family, "depth": inception.depth(net), "residual": True}, 10)
    shape = (75, 75, 3)
    variables = models.initial_variables(model, 0, shape)
    random = np.random.default_rng(0)
    leaves = models.unstack(variables)
    for path, leaf in leaves.items():
        if leaf.ndim == 1:
            leaves[path] = leaf + np.float32(0.3) * random.uniform(size=leaf.shape).astype(np.float32)
    variables = models.stack(leaves, variables)
    theirs = peer_inception.PeerInception(
        peer_inception.PAPER[family], (5, 10, 5), (0.17, 0.1, 0.2), False, channels=3, eps=1e-3
    ).eval()
    theirs.load(model, variables, shape)
    x = images(shape)
    ours = quick(lambda variables: model.apply(variables, x, train=False))(variables)
    expected = logits(theirs, x)
    assert np.std(expected[0] - expected[1]) > 1e-3 * np.std(expected)
    np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())
