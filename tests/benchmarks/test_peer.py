"""The PyTorch peer computes what this project computes, or the times of the two could not be compared."""

import functools

import jax
import numpy as np
import pytest

from configs import recipes
from resnet_jax import data
from resnet_jax.training import feed, parallel
from resnet_jax.training.program import make_program
from tests.benchmarks.peers import assert_same_tensors, quick, quickly

torch = pytest.importorskip("torch", reason="the peer needs PyTorch; make .venv/peer installs it")
peer = pytest.importorskip("benchmarks.peer")


@pytest.mark.parametrize(("depth", "residual"), [(8, False), (14, True)], ids=["plain", "residual"])
def test_from_the_same_weights_both_compute_the_same_logits_loss_and_update(depth, residual):
    config = recipes.digits(depth, residual)
    config.optimizer.learning_rate = 0.1
    config.batch_size = 16
    mesh = parallel.device_mesh(jax.devices()[:1])
    program = make_program(config, 10, mesh)
    dataset = data.load(config.data)
    train = dataset.splits["train"]
    examples, _ = feed.place(dataset, data.normalisation(dataset, config.data), config.seed, mesh)
    mean = np.asarray(examples.mean)
    state = program.init((8, 8, 1))

    def peer_of(state):
        net = peer.PeerNet(depth, residual, channels=1)
        net.load(jax.device_get({"params": state.params, "batch_stats": state.batch_stats}))
        return net

    net = peer_of(state)
    images = train.images[:16].astype(np.float32) / 255 - mean
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    ours = quick(functools.partial(program.model.apply, train=False))(variables, images)
    with torch.no_grad():
        theirs = net.eval()(torch.from_numpy(images).permute(0, 3, 1, 2))
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-3, atol=1e-4)

    step = peer.make_step(net, train.images, train.labels, mean, padding=0, flip=False, mixed=False)
    indices = np.arange(16, dtype=np.int32)
    loss = step(indices)
    after, metrics = quickly(program.train_steps, state, examples, indices[None])
    np.testing.assert_allclose(metrics["loss"][0], loss.item(), rtol=1e-4)
    assert_same_tensors(peer_of(after).state_dict(), net.state_dict(), rtol=1e-2)


def test_the_peer_crops_as_this_project_does():
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    seen = []

    class Net(peer.PeerNet):
        def forward(self, x):
            seen.append(x.detach().numpy())
            return super().forward(x)

    net = Net(8, residual=True, channels=1)
    step = peer.make_step(net, images, np.zeros(40), np.zeros((8, 8, 1), np.float32), padding=2, flip=True, mixed=False)
    step(np.arange(40, dtype=np.int32))
    padded = np.pad(images[..., 0] / np.float32(255), ((0, 0), (2, 2), (2, 2)))
    flips = 0
    for image, crop in zip(padded, seen[0][:, 0], strict=True):
        windows = [image[top : top + 8, left : left + 8] for top in range(5) for left in range(5)]
        flipped = any(np.array_equal(window[:, ::-1], crop) for window in windows)
        assert flipped or any(np.array_equal(window, crop) for window in windows)
        flips += flipped
    assert 8 < flips < 32
