"""A DenseNet written in PyTorch from the paper computes what this project computes."""

import functools

import jax
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from resnet_jax import models
from resnet_jax.training.step import loss_fn
from tests.benchmarks.peers import assert_same_tensors, quick

torch = pytest.importorskip("torch", reason="the peer needs PyTorch; make .venv/peer installs it")
peer = pytest.importorskip("benchmarks.peer_densenet")

# More layers than a loop takes.
SLOW = [pytest.param(22, 1.0, 3, marks=pytest.mark.slow), pytest.param(34, 0.5, 3, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("depth", "compression", "blocks"), [(10, 1.0, 2), (16, 0.5, 2), *SLOW])
def test_from_the_same_weights_both_compute_the_same_logits_loss_and_update(depth, compression, blocks):
    fields = {"family": "densenet", "depth": depth, "growth": 12, "compression": compression}
    model = models.build(ConfigDict(fields), 10)
    model = model.clone(blocks=model.blocks[:blocks])
    variables = models.initial_variables(model, 0, (8, 8, 3))
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(16, 8, 8, 3)).astype(np.float32), random.integers(0, 10, 16)
    net = peer.PeerDenseNet(depth, 12, compression, channels=3, blocks=blocks)
    net.load(variables)
    images = torch.from_numpy(x).permute(0, 3, 1, 2)

    @quick
    def compute(params, batch_stats):
        logits = model.apply({"params": params, "batch_stats": batch_stats}, x, train=False)
        loss = functools.partial(loss_fn, model=model)
        return logits, jax.value_and_grad(loss, has_aux=True)(params, batch_stats, x, labels)

    params = variables["params"]
    logits, ((loss, (_, moved)), gradients) = compute(params, variables["batch_stats"])
    with torch.no_grad():
        np.testing.assert_allclose(logits, net.eval()(images), rtol=1e-3, atol=1e-4)

    sgd = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.1, 0.9, nesterov=True))
    params = optax.apply_updates(params, sgd.update(gradients, sgd.init(params), params)[0])
    optimizer = torch.optim.SGD(net.parameters(), 0.1, 0.9, weight_decay=1e-4, nesterov=True)
    peer_loss = torch.nn.functional.cross_entropy(net.train()(images), torch.from_numpy(labels))
    peer_loss.backward()
    optimizer.step()
    np.testing.assert_allclose(loss, peer_loss.item(), rtol=1e-4)
    assert_same_tensors(peer.tensors(jax.device_get({"params": params, **moved})), net.state_dict(), rtol=1e-2)
