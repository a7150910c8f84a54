"""What the steps of a run are fed with: examples that lie on the devices, or a stream of them."""

import time
from collections.abc import Callable, Generator
from typing import Any, Protocol

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from ml_collections import ConfigDict

from resnet_jax import data
from resnet_jax.data import augment, sampling, stream
from resnet_jax.training import parallel
from resnet_jax.training.step import DeviceData


class Feed(Protocol):
    """Batches for training and evaluation.

    Attributes:
      data: what steps get besides their batch.
      sizes: number of examples of each split.
      image_shape: ``(height, width, channels)`` of what the net sees.
      sha256: tells the data set from others.
      most_steps: how many steps one dispatch may make.
    """

    data: DeviceData
    sizes: dict[str, int]
    image_shape: tuple[int, ...]
    sha256: str
    most_steps: int

    def train(self, steps: range, settle: Callable[[], Any]) -> tuple[Any, float]:
        """Return the batches of ``steps``, which follow those asked for before, and the seconds the devices waited.

        ``settle`` waits until the devices have done all that they have been given.
        """

    def evaluation(self, split: str, batch_size: int) -> Generator[tuple[Any, Any]]:
        """Yield batches of about ``batch_size`` examples, and their weights, that visit ``split`` once."""

    def bad(self) -> dict[str, list[int]] | None:
        """Return which examples of each split could not be decoded; None if all have been. All processes must ask."""

    def remember(self, bad: dict[str, list[int]] | None) -> None:
        """Take into account what ``bad`` returned when the run was last saved."""

    def close(self) -> None:
        """End what works in the background."""


def open_feed(dataset: data.Dataset | data.Stream, config: ConfigDict, mesh: Mesh) -> Feed:
    """Return the feed of the run of ``config`` from ``dataset``."""
    return Streamed(dataset, config, mesh) if isinstance(dataset, data.Stream) else Resident(dataset, config, mesh)


def place(splits: dict[str, data.Split], seed: int, mesh: Mesh) -> tuple[DeviceData, dict[str, range]]:
    """Put the examples of all ``splits`` on every device, the training examples first, and return the range of each."""
    ranges, start = {}, 0
    ordered = {"train": splits["train"], **splits}
    for name, split in ordered.items():
        ranges[name] = range(start, start + len(split.labels))
        start += len(split.labels)
    images, labels = (np.concatenate(parts) for parts in zip(*ordered.values(), strict=True))
    mean = augment.pixel_mean(splits["train"].images)
    return DeviceData(*parallel.replicate((images, labels, mean, np.uint32(seed)), mesh)), ranges


class Resident:
    """Examples that all lie on every device; a batch is their indices."""

    most_steps = sampling.MOST_STEPS

    def __init__(self, dataset: data.Dataset, config: ConfigDict, mesh: Mesh) -> None:
        """Put ``dataset`` on the devices of ``mesh``."""
        self.data, self._ranges = place(dataset.splits, config.seed, mesh)
        self.sizes = {name: len(split) for name, split in self._ranges.items()}
        self.image_shape = data.image_shape(dataset)
        self.sha256 = data.digest(dataset)
        self._seed, self._batch_size, self._devices = config.seed, config.batch_size, mesh.size

    def train(self, steps: range, settle: Callable[[], Any]) -> tuple[Any, float]:
        """Return the indices of ``steps``, int32 ``[steps, batch]``; the devices never wait for them."""
        return sampling.batch_indices(self._seed, steps, self._batch_size, self.sizes["train"]), 0.0

    def evaluation(self, split: str, batch_size: int) -> Generator[tuple[Any, Any]]:
        """Yield indices and weights."""
        # The same size for all splits, to compile once.
        size = sampling.evaluation_size(batch_size, sum(self.sizes.values()), self._devices)
        yield from sampling.evaluation_batches(self._ranges[split], size)

    def bad(self) -> dict[str, list[int]] | None:
        """Return None: all have been decoded."""

    def remember(self, bad: dict[str, list[int]] | None) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Streamed:
    """Examples that worker processes decode ahead of the step; a batch is images and labels."""

    most_steps = 1  # The batches of several would have to be decoded before the first can begin.

    def __init__(self, dataset: data.Stream, config: ConfigDict, mesh: Mesh) -> None:
        """Begin nothing yet, but for the mean of the training images, which takes seconds."""
        self._config, self._mesh, self._sources = config, mesh, dataset.splits
        self.sizes = {name: len(source) for name, source in dataset.splits.items()}
        self._evaluated = {name: np.arange(size) for name, size in self.sizes.items()}
        if config.data.train_clean_examples is not None:
            order = sampling.epoch_order(0, 0, self.sizes["train"])
            self._evaluated["train"] = np.sort(order[: config.data.train_clean_examples])
        self.image_shape = data.image_shape(dataset)
        self.sha256 = dataset.digest()
        mean, seed = parallel.replicate((data.mean(dataset, config.data), np.uint32(config.seed)), mesh)
        self.data = DeviceData(None, None, mean, seed)
        self._bad = {name: np.zeros(size, bool) for name, size in self.sizes.items()}
        self._training: tuple[int, stream.Workers, stream.Prefetcher] | None = None
        self._skip = config.data.on_bad_image == "skip"

    def train(self, steps: range, settle: Callable[[], Any]) -> tuple[Any, float]:
        """Return images ``[1, batch, ...]`` and labels ``[1, batch]`` of the one step in ``steps``."""
        next_step, workers, ahead = self._training or self._begin(steps.start)
        if next_step != steps.start:  # Asked for anew, as in the search for what diverged.
            self.close()
            next_step, workers, ahead = self._begin(steps.start)
        waited = 0.0
        if not ahead.ready:
            settle()
            start = time.perf_counter()
            batch, _ = next(ahead)
            waited = time.perf_counter() - start
        else:
            batch, _ = next(ahead)
        self._training = next_step + 1, workers, ahead
        return batch, waited

    def _begin(self, step: int) -> tuple[int, stream.Workers, stream.Prefetcher]:
        config = self._config
        maker = stream.TrainingBatches(
            **self._common("train", config.batch_size), seed=config.seed, augmentation=config.data.augmentation
        )
        workers = stream.Workers(maker, range(step, config.steps), stream.workers_of(config.data))
        self._training = step, workers, stream.Prefetcher(workers, lambda batch: self._place("train", batch, (None,)))
        return self._training

    def evaluation(self, split: str, batch_size: int) -> Generator[tuple[Any, Any]]:
        """Yield images and labels, and weights."""
        chosen = self._evaluated[split]
        # The same size for all splits, to compile once.
        size = sampling.evaluation_size(batch_size, max(map(len, self._evaluated.values())), self._mesh.size)
        maker = stream.EvaluationBatches(**self._common(split, size), chosen=chosen)
        count = min(stream.workers_of(self._config.data), len(maker))
        workers = stream.Workers(maker, range(len(maker)), count)
        ahead = stream.Prefetcher(workers, lambda batch: self._place(split, batch, ()))
        try:
            yield from ahead
        finally:
            ahead.close()
            workers.close()

    def _common(self, split: str, batch_size: int) -> dict[str, Any]:
        """Return what makers of training and evaluation batches share."""
        share = batch_size // jax.process_count()
        first = jax.process_index() * share
        return {
            "source": self._sources[split],
            "side": self.image_shape[0],
            "share": range(first, first + share),
            "batch_size": batch_size,
            "skip": self._skip,
        }

    def _place(self, split: str, batch: stream.HostBatch, axes: tuple[None, ...]) -> tuple[Any, Any]:
        """Put this host's share of a batch on its devices, behind new first ``axes``; return batch and weights."""
        for index in batch.bad[batch.bad >= 0].tolist():
            if not self._bad[split][index]:
                logging.warning("%s cannot be decoded and is skipped", self._sources[split][index][2])
            self._bad[split][index] = True
        arrays = tuple(array[axes] if axes else array for array in batch[:3])
        if self._config.parallel.mapper == "shard_map":
            arrays = parallel.shard(arrays, self._mesh, len(axes))
        return arrays[:2], arrays[2]

    def bad(self) -> dict[str, list[int]]:
        """Return which examples of each split some process could not decode."""
        masks = self._bad
        if jax.process_count() > 1:
            masks = jax.tree.map(lambda mask: multihost_utils.process_allgather(mask).any(axis=0), masks)
        return {name: np.flatnonzero(mask).tolist() for name, mask in masks.items()}

    def remember(self, bad: dict[str, list[int]] | None) -> None:
        """Take into account what ``bad`` returned when the run was last saved."""
        for name, indices in (bad or {}).items():
            self._bad[name][indices] = True

    def close(self) -> None:
        """End the processes that decode for training."""
        if self._training is not None:
            _, workers, ahead = self._training
            self._training = None
            ahead.close()
            workers.close()
