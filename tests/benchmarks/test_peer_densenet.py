"""A DenseNet written in PyTorch from the paper computes what this project computes."""

import functools

import jax
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from resnet_jax import models
from resnet_jax.training.step import loss_fn

torch = pytest.importorskip("torch", reason="the peer needs PyTorch; make .venv/peer installs it")
peer = pytest.importorskip("benchmarks.peer_densenet")

SLOW = [pytest.param(40, 1.0, marks=pytest.mark.slow), pytest.param(40, 0.5, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("depth", "compression"), [(10, 1.0), (16, 0.5), *SLOW])
def test_from_the_same_weights_both_compute_the_same_logits_loss_and_update(depth, compression):
    model = models.build(
        ConfigDict({"family": "densenet", "depth": depth, "growth": 12, "compression": compression}), 10
    )
    variables = models.initial_variables(model, 0, (8, 8, 3))
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(16, 8, 8, 3)).astype(np.float32), random.integers(0, 10, 16)
    net = peer.PeerDenseNet(depth, 12, compression, channels=3)
    net.load(variables)
    images = torch.from_numpy(x).permute(0, 3, 1, 2)

    logits = jax.jit(functools.partial(model.apply, train=False))(variables, x)
    with torch.no_grad():
        np.testing.assert_allclose(logits, net.eval()(images), rtol=1e-3, atol=1e-4)

    gradients = jax.jit(jax.value_and_grad(functools.partial(loss_fn, model=model), has_aux=True))
    params = variables["params"]
    (loss, (_, moved)), by_params = gradients(params, variables["batch_stats"], x, labels)
    sgd = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.1, 0.9, nesterov=True))
    params = optax.apply_updates(params, sgd.update(by_params, sgd.init(params), params)[0])

    optimizer = torch.optim.SGD(net.parameters(), 0.1, 0.9, weight_decay=1e-4, nesterov=True)
    peer_loss = torch.nn.functional.cross_entropy(net.train()(images), torch.from_numpy(labels))
    peer_loss.backward()
    optimizer.step()
    np.testing.assert_allclose(loss, peer_loss.item(), rtol=1e-4)
    theirs = net.state_dict()
    for name, tensor in peer.tensors(jax.device_get({"params": params, **moved})).items():
        # PyTorch moves the running variance by the unbiased estimate, this project by the biased one.
        if not name.endswith(("running_var", "num_batches_tracked")):
            np.testing.assert_allclose(tensor, theirs[name], rtol=1e-2, atol=1e-4, err_msg=name)
