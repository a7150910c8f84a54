"""Time of a training step of each kind of net compared with its peer in PyTorch, and time to its first step.

    python -m benchmarks.zoo

Ours and the peer, eager, begin from the same weights and take turns in one process: forward and backward pass and SGD
with momentum on random images, float32. The first losses must agree.
"""

import functools
import json
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import timm
import torch
import torch.nn.functional as F
import torchvision

from benchmarks import measure, peer_densenet, peer_inception, peer_residual
from resnet_jax import interop, models
from resnet_jax.backend import keep_freed_memory
from resnet_jax.models.layers import onednn
from resnet_jax.training.step import loss_fn

ROUNDS = 5
CIFAR, IMAGENET = (32, 32, 3), (224, 224, 3)


class Row(NamedTuple):
    """A net: fields of ``config.model``, peer, batch of a step, note for its title, whether loops are unrolled."""

    fields: dict[str, Any]
    peer: Callable[[], torch.nn.Module]
    shape: tuple[int, int, int] = CIFAR
    batch: int = 32
    classes: int = 10
    note: str = ""
    unroll: bool = False


PREACTIVATION = {"order": "preactivation"}
IMAGENET_B = {"family": "imagenet", "shortcut": "B", "bottleneck_stride": "middle"}
RESNETV2 = IMAGENET_B | PREACTIVATION | {"depth": 50, "stem_activation": False}
DENSENET_40 = {"family": "densenet", "depth": 40}
DENSENET_BC_100 = {"family": "densenet", "depth": 100, "compression": 0.5}
DENSENET_121 = {"family": "imagenet_densenet", "depth": 121, "growth": 32, "compression": 0.5}
ON_IMAGENET = {"shape": IMAGENET, "batch": 4, "classes": 1000}
SMALL_INCEPTION = peer_inception.small(16)
ROWS = [
    Row({"depth": 20}, lambda: peer_residual.PeerResidualNet(3)),
    Row(PREACTIVATION | {"depth": 20}, lambda: peer_residual.PeerResidualNet(3, order="preactivation")),
    Row(
        PREACTIVATION | {"depth": 29, "block": "bottleneck", "shortcut": "B"},
        lambda: peer_residual.PeerResidualNet(3, "bottleneck", "preactivation", "B"),
    ),
    Row(
        {"family": "wide", "depth": 16, "widening": 4},
        lambda: peer_residual.PeerResidualNet(2, order="preactivation", shortcut="B", widening=4),
    ),
    Row({"depth": 20, "block": "single"}, lambda: peer_residual.PeerResidualNet(6, "single")),
    Row(
        {"depth": 20, "shortcut": "shortcut_gating"},
        lambda: peer_residual.PeerResidualNet(3, shortcut="shortcut_gating"),
        note="shortcut_gating",
    ),
    Row(DENSENET_40, lambda: peer_densenet.PeerDenseNet(40, 12, 1.0, 3), unroll=True),
    Row(DENSENET_BC_100, lambda: peer_densenet.PeerDenseNet(100, 12, 0.5, 3), unroll=True),
    Row(DENSENET_BC_100, lambda: peer_densenet.PeerDenseNet(100, 12, 0.5, 3)),
    Row(
        {"family": "inception", "depth": 44},
        lambda: peer_inception.PeerInception(SMALL_INCEPTION, (3,) * 3, (1.0,) * 3, True, 3, 1e-5),
    ),
    Row(IMAGENET_B | {"depth": 50, "widening": 2}, torchvision.models.wide_resnet50_2, **ON_IMAGENET),
    Row(RESNETV2, lambda: timm.create_model("resnetv2_50"), **ON_IMAGENET),
    Row(DENSENET_121, torchvision.models.densenet121, unroll=True, **ON_IMAGENET),
    Row(
        {"family": "inception_v4", "depth": 76, "residual": False},
        lambda: timm.create_model("inception_v4"),
        **ON_IMAGENET,
    ),
    Row(
        {"family": "inception_resnet_v2", "depth": 176}, lambda: timm.create_model("inception_resnet_v2"), **ON_IMAGENET
    ),
]


def compare(row: Row) -> dict[str, Any]:
    """Return the measurements of one net."""
    model = models.build(row.fields, row.classes, unroll=row.unroll)
    variables = models.initial_variables(model, 0, row.shape)
    random = np.random.default_rng(0)
    images = random.normal(size=(row.batch, *row.shape)).astype(np.float32)
    labels = random.integers(0, row.classes, row.batch).astype(np.int32)
    net = row.peer().train()
    load(row, net, model, variables)
    sgd = optax.sgd(1e-3, momentum=0.9)

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, jax.Array]:
        params, batch_stats, opt_state = state
        compute = jax.value_and_grad(functools.partial(loss_fn, model=model), has_aux=True)
        (loss, (_, moved)), gradients = compute(params, batch_stats, images, labels)
        updates, opt_state = sgd.update(gradients, opt_state)
        return (optax.apply_updates(params, updates), moved["batch_stats"], opt_state), loss

    state = variables["params"], variables["batch_stats"], sgd.init(variables["params"])
    losses: dict[str, list[float]] = {"ours": [], "peer": []}

    def ours() -> None:
        nonlocal state
        state, loss = update(state, images, labels)
        losses["ours"].append(float(loss))

    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    classes = torch.from_numpy(labels).long()

    def theirs() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(net(pixels), classes)
        loss.backward()
        optimizer.step()
        losses["peer"].append(loss.item())

    start = time.perf_counter()
    ours()
    first = time.perf_counter() - start
    theirs()
    np.testing.assert_allclose(losses["ours"][0], losses["peer"][0], rtol=1e-3)
    seconds = measure.in_turn({"ours": ours, "peer": theirs}, ROUNDS)
    return {
        "net": ", ".join(filter(None, [models.title(row.fields), row.note, "unrolled" if row.unroll else ""])),
        "images": f"{row.batch} of {'x'.join(map(str, row.shape))}",
        "first step (s)": round(first, 1),
        "ms a step": {name: round(1e3 * value, 1) for name, value in seconds.items()},
        "ours to peer": round(seconds["ours"] / seconds["peer"], 2),
    }


def load(row: Row, net: torch.nn.Module, model: Any, variables: dict[str, Any]) -> None:
    """Give ``net``, the peer of ``row``, the ``variables`` of ``model``, and let it drop nothing."""
    net.to(memory_format=torch.channels_last)
    if isinstance(net, peer_inception.PeerInception):
        net.load(model, variables, row.shape)
    elif isinstance(net, peer_residual.PeerResidualNet | peer_densenet.PeerDenseNet):
        net.load(variables)
    else:
        scheme = interop.scheme_of_family(row.fields["family"], row.fields.get("order", "original"))
        tensors = {name: torch.from_numpy(np.array(each)) for name, each in interop.to_torch(variables, scheme).items()}
        missing, unexpected = net.load_state_dict(tensors, strict=False)
        assert not unexpected
        assert all(name.endswith("num_batches_tracked") for name in missing)
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def main() -> None:
    """Measure on all cores and on one, and record."""
    keep_freed_memory()
    if sys.argv[1:] != ["--results"]:
        measure.save("zoo", measure.on_one_core_and_all("benchmarks.zoo"))
        return
    torch.set_num_threads(measure.hardware()["cores"])
    with onednn.computed_by("onednn" if onednn.is_available() else "lax"):
        print(json.dumps({"nets": [compare(row) for row in ROWS]}))


if __name__ == "__main__":
    main()
