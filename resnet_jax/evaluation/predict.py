"""From images to logits, on all devices."""

import collections
import functools
import itertools
import math
import time
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from resnet_jax.data import augment
from resnet_jax.evaluation.nets import TrainedNet
from resnet_jax.evaluation.scores import average
from resnet_jax.evaluation.views import views
from resnet_jax.training import parallel

Shape = tuple[int, ...]


def forward(
    variables: Any, normalisation: tuple[jax.Array, jax.Array], images: jax.Array, *, model: nn.Module
) -> jax.Array:
    """Return the logits ``[batch, classes]`` of the whole batch; runs on each device, with the axis ``AXIS`` bound.

    Args:
      variables: of ``model``.
      normalisation: ``mean`` and ``std`` of a ``TrainedNet``.
      images: uint8 ``[batch / devices, height, width, channels]``, this device's share.
      model: the net.
    """
    mean, std = normalisation
    logits: Any = model.apply(variables, augment.normalise(images, mean) / std[None], train=False)
    # A sum of zero-padded parts: unlike after a gather, JAX knows the result to be equal on all devices.
    share = images.shape[0]
    whole = jnp.zeros((share * jax.lax.axis_size(parallel.AXIS), logits.shape[-1]), logits.dtype)
    start = jax.lax.axis_index(parallel.AXIS) * share
    return jax.lax.psum(jax.lax.dynamic_update_slice(whole, logits, (start, 0)), parallel.AXIS)


def predict(
    net: TrainedNet,
    images: Iterable[np.ndarray],
    mesh: Mesh,
    mapper: str = "shard_map",
    batch_size: int = 500,
    protocol: str = "single",
    flip: bool = False,
) -> tuple[np.ndarray, float]:
    """Return the logits of ``net`` for ``images``, float ``[examples, classes]``, and the images evaluated per second.

    For several views per image, the logits are the logarithm of the mean of the views' probabilities.

    Args:
      net: the net.
      images: uint8 ``[height, width, channels]`` each, of any size.
      mesh: the devices.
      mapper: "shard_map" or "pmap".
      batch_size: about how many images of the net's usual size to compute at once; it does not change the result.
      protocol: which views of an image are averaged, one of ``PROTOCOLS``.
      flip: whether mirrored views are averaged too.
    """
    compute = parallel.map_over_devices(functools.partial(forward, model=net.model), mesh, mapper, batch_arguments=1)
    variables = parallel.replicate(net.variables, mesh)
    logits: list[list[np.ndarray]] = []
    waiting: dict[Shape, list[tuple[int, np.ndarray]]] = collections.defaultdict(list)
    launched: collections.deque[tuple[list[int], jax.Array]] = collections.deque()
    normalisations: dict[Shape, Any] = {}
    start = 0.0

    def launch(shape: Shape, size: int) -> None:
        """Start a batch of ``size`` views of ``shape``, padded with zeros."""
        nonlocal start
        examples, chosen = zip(*waiting.pop(shape), strict=True)
        batch = np.zeros((math.ceil(size / mesh.size) * mesh.size, *shape), np.uint8)
        batch[: len(chosen)] = chosen
        if shape not in normalisations:
            normalisations[shape] = parallel.replicate((mean_for(net, shape), net.std), mesh)
        if not start:
            jax.block_until_ready(compute(variables, normalisations[shape], batch))  # Compilation is not timed.
            start = time.perf_counter()
        launched.append((list(examples), compute(variables, normalisations[shape], batch)))

    def collect() -> None:
        """Read the oldest batch of results."""
        examples, results = launched.popleft()
        for example, result in zip(examples, np.asarray(results), strict=False):
            logits[example].append(result)

    for example, image in enumerate(images):
        logits.append([])
        for view in views(image, net.crop, protocol, flip):
            waiting[view.shape].append((example, view))
            size = batch_of(view.shape, net.crop, batch_size)
            if len(waiting[view.shape]) == size:
                launch(view.shape, size)
                while len(launched) > 1:  # The devices compute the newest batch while the host reads the previous one.
                    collect()
    for shape in list(waiting):
        full = batch_of(shape, net.crop, batch_size)
        # A batch of the usual size reuses the compiled program.
        launch(shape, full if shape in normalisations else len(waiting[shape]))
    while launched:
        collect()
    seconds = time.perf_counter() - start
    if all(len(each) == 1 for each in logits):
        return np.stack(list(itertools.chain.from_iterable(logits))), len(logits) / seconds
    return np.stack([average(each) for each in logits]), len(logits) / seconds


def batch_of(shape: Shape, crop: int | None, batch_size: int) -> int:
    """Return the number of views of ``shape`` with about the memory of ``batch_size`` images of the usual size."""
    pixels = shape[0] * shape[1]
    return max(1, batch_size * (crop**2 if crop else pixels) // pixels)


def mean_for(net: TrainedNet, shape: Shape) -> np.ndarray:
    """Return the mean to subtract from views of ``shape``: per pixel if the net's has that shape, else per channel."""
    if net.mean.shape[:2] in ((1, 1), shape[:2]):
        return net.mean
    return net.mean.mean(axis=(0, 1), keepdims=True)
