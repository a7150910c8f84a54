"""From images to logits, on all devices."""

import collections
import functools
import itertools
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from resnet_jax.data import augment
from resnet_jax.errors import UserError
from resnet_jax.evaluation.nets import TrainedNet, check_size
from resnet_jax.evaluation.scores import average
from resnet_jax.evaluation.views import views
from resnet_jax.training import parallel

Shape = tuple[int, ...]


def forward(
    variables: Any, normalisation: tuple[jax.Array, jax.Array], images: jax.Array, *, model: nn.Module
) -> jax.Array:
    """Return the logits ``[batch, classes]`` of the whole batch; runs on each device, with the axis ``AXIS`` bound.

    Args:
      variables: variables of ``model``.
      normalisation: ``mean`` and ``std`` of a ``TrainedNet``.
      images: this device's share, uint8 ``[batch / devices, height, width, channels]``.
      model: Flax module.
    """
    mean, std = normalisation
    logits: Any = model.apply(variables, augment.normalise(images, mean, std), train=False)
    # A sum of zero-padded parts: unlike after a gather, JAX knows the result to be equal on all devices.
    share = images.shape[0]
    whole = jnp.zeros((share * jax.lax.axis_size(parallel.AXIS), logits.shape[-1]), logits.dtype)
    start = jax.lax.axis_index(parallel.AXIS) * share
    return jax.lax.psum(jax.lax.dynamic_update_slice(whole, logits, (start, 0)), parallel.AXIS)


class Batches:
    """Batches of views on the devices, which compute the newest while the host reads the previous one.

    Attributes:
      logits: logits of each example's views, by its index.
      start: start of the first batch after its compilation, by ``time.perf_counter``.
    """

    def __init__(self, net: TrainedNet, mesh: Mesh, mapper: str) -> None:
        self.logits: dict[int, list[np.ndarray]] = collections.defaultdict(list)
        self.start: float | None = None
        self._net, self._mesh = net, mesh
        forward_on_device = functools.partial(forward, model=net.model)
        self._compute = parallel.map_over_devices(forward_on_device, mesh, mapper, batch_arguments=1)
        self._variables = parallel.replicate(net.variables, mesh)
        self._normalisations: dict[Shape, Any] = {}
        self._launched = collections.deque[tuple[list[int], jax.Array]]()

    def has_compiled(self, shape: Shape) -> bool:
        """Return whether a batch of views of ``shape`` has been launched before."""
        return shape in self._normalisations

    def launch(self, views: Sequence[tuple[int, np.ndarray]], size: int) -> None:
        """Start a batch of ``size`` places with ``views``, of one shape and with their examples; the rest is zeros."""
        examples, chosen = zip(*views, strict=True)
        shape = chosen[0].shape
        batch = np.zeros((math.ceil(size / self._mesh.size) * self._mesh.size, *shape), np.uint8)
        batch[: len(chosen)] = chosen
        if not self.has_compiled(shape):
            normalisation = mean_for(self._net, shape), self._net.std
            self._normalisations[shape] = parallel.replicate(normalisation, self._mesh)
        inputs = self._variables, self._normalisations[shape], batch
        if self.start is None:
            jax.block_until_ready(self._compute(*inputs))  # Compilation is not timed.
            self.start = time.perf_counter()
        self._launched.append((list(examples), self._compute(*inputs)))

    def collect(self, left: int) -> None:
        """Read the results of all but the ``left`` newest batches."""
        while len(self._launched) > left:
            examples, results = self._launched.popleft()
            for example, result in zip(examples, np.asarray(results), strict=False):
                self.logits[example].append(result)


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
      images: uint8 ``[height, width, channels]`` each, of any size unless ``net.size`` says which.
      mesh: the devices.
      mapper: "shard_map" or "pmap".
      batch_size: about how many images of the net's usual size to compute at once; it does not change the result.
      protocol: which views of an image are averaged, one of ``PROTOCOLS``.
      flip: whether mirrored views are averaged too.

    Raises:
      UserError: an image has another size than the net takes, or logits are not finite.
    """
    batches = Batches(net, mesh, mapper)
    waiting: dict[Shape, list[tuple[int, np.ndarray]]] = collections.defaultdict(list)
    for example, image in enumerate(images):
        check_size(net, image.shape)
        for view in views(image, net.crop, protocol, flip):
            waiting[view.shape].append((example, view))
            size = batch_of(view.shape, net.crop, batch_size)
            if len(waiting[view.shape]) == size:
                batches.launch(waiting.pop(view.shape), size)
                batches.collect(left=1)
    for shape, rest in waiting.items():
        # A batch of the usual size reuses the compiled program.
        size = batch_of(shape, net.crop, batch_size) if batches.has_compiled(shape) else len(rest)
        batches.launch(rest, size)
    batches.collect(left=0)
    assert batches.start is not None  # There is an image at least.
    rate = len(batches.logits) / (time.perf_counter() - batches.start)
    logits = [batches.logits[example] for example in sorted(batches.logits)]
    check_finite(net.name, logits)
    if all(len(each) == 1 for each in logits):
        return np.stack(list(itertools.chain.from_iterable(logits))), rate
    return np.stack([average(each) for each in logits]), rate


def check_finite(name: str, logits: Sequence[Sequence[np.ndarray]]) -> None:
    """Raise a UserError unless all ``logits`` of the net ``name``, of the views of each image, are finite."""
    broken = sum(not np.isfinite(views).all() for views in logits)
    if broken:
        raise UserError(
            f"the logits of {name} are inf or NaN for {broken} of {len(logits)} images, so it has no error; training "
            "diverged, or the weights need another --mean, --std, --epsilon or --config.dtype=float32."
        )


def batch_of(shape: Shape, crop: int | None, batch_size: int) -> int:
    """Return the number of views of ``shape`` with about the memory of ``batch_size`` images of the usual size."""
    pixels = shape[0] * shape[1]
    return max(1, batch_size * (crop**2 if crop else pixels) // pixels)


def mean_for(net: TrainedNet, shape: Shape) -> np.ndarray:
    """Return the mean to subtract from views of ``shape``: per pixel if the net's has that shape, else per channel."""
    if net.mean.shape[:2] in ((1, 1), shape[:2]):
        return net.mean
    return net.mean.mean(axis=(0, 1), keepdims=True)
