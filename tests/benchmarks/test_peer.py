"""The PyTorch peer computes what this project computes, or the times of the two could not be compared."""

import jax
import numpy as np
import pytest

from configs import recipes
from resnet_jax import data
from resnet_jax.training import feed, parallel
from resnet_jax.training.program import make_program

torch = pytest.importorskip("torch", reason="the peer needs PyTorch; make .venv/peer installs it")
peer = pytest.importorskip("benchmarks.peer")


@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
def test_from_the_same_weights_both_compute_the_same_logits_loss_and_update(residual):
    config = recipes.digits(14, residual)
    config.optimizer.learning_rate = 0.1
    config.batch_size = 16
    mesh = parallel.device_mesh(jax.devices()[:1])
    program = make_program(config, 10, mesh)
    dataset = data.load(config.data)
    splits = dataset.splits
    examples, _ = feed.place(dataset, data.normalisation(dataset, config.data), config.seed, mesh)
    state = program.init((8, 8, 1))
    variables = jax.device_get({"params": state.params, "batch_stats": state.batch_stats})
    net = peer.PeerNet(14, residual, channels=1)
    net.load(variables)

    images = splits["train"].images[:16].astype(np.float32) / 255 - np.asarray(examples.mean)
    for train in (False, True):
        ours, _ = program.model.apply(variables, images, train=train, mutable=["batch_stats"])
        net.train(train)
        with torch.no_grad():
            theirs = net(torch.from_numpy(images).permute(0, 3, 1, 2))
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-3, atol=1e-4)

    net.load(variables)  # Running statistics have moved.
    step = peer.make_step(
        net,
        splits["train"].images,
        splits["train"].labels,
        np.asarray(examples.mean),
        padding=0,
        flip=False,
        mixed=False,
    )
    indices = np.arange(16, dtype=np.int32)
    loss = step(indices)
    after, metrics = program.train_steps(state, examples, indices[None])
    np.testing.assert_allclose(metrics["loss"][0], loss.item(), rtol=1e-4)
    expected = peer.PeerNet(14, residual, channels=1)
    expected.load(jax.device_get({"params": after.params, "batch_stats": after.batch_stats}))
    # PyTorch moves the running variance by the unbiased estimate, Flax and this project by the biased one.
    ours, theirs = expected.state_dict(), net.state_dict()
    for name in ours:
        if not name.endswith(("running_var", "num_batches_tracked")):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-2, atol=1e-4, err_msg=name)


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
