"""Batch sources of a run: device-resident data sets and streams."""

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
from resnet_jax.data import sampling, stream
from resnet_jax.training import parallel
from resnet_jax.training.step import StepInputs


class Feed(Protocol):
    """Batches for training and evaluation.

    Attributes:
      examples: inputs of every step in addition to its batch.
      sizes: number of examples of each split.
      image_shape: ``(height, width, channels)`` of the images that the net gets.
      normalisation: mean and standard deviation, as ``data.normalisation`` returns them.
      most_steps: the most steps that one dispatch may make.
    """

    examples: StepInputs
    sizes: dict[str, int]
    image_shape: tuple[int, ...]
    normalisation: tuple[np.ndarray, np.ndarray | None]
    most_steps: int

    def train(self, steps: range, wait: Callable[[], Any]) -> tuple[Any, float]:
        """Return the batches of ``steps``, and the seconds for which the devices had to wait for them.

        Args:
          steps: the steps after the previous call's.
          wait: blocks until the devices have done all the work they were given.
        """

    def evaluation(self, split: str, batch_size: int) -> Generator[tuple[Any, Any]]:
        """Yield batches of about ``batch_size`` examples and their weights; together they are ``split`` once."""

    def bad(self) -> dict[str, list[int]] | None:
        """Return the indices of the examples of each split that could not be decoded, None where nothing is decoded.

        Every process must call this.
        """

    def remember(self, bad: dict[str, list[int]] | None) -> None:
        """Add ``bad``, the value of ``bad()`` in the checkpoint from which the run resumes."""

    def close(self) -> None:
        """End the work in the background."""


def open_feed(dataset: data.Dataset | data.Stream, config: ConfigDict, mesh: Mesh) -> Feed:
    """Return the feed of the run of ``config`` from ``dataset``."""
    return Streamed(dataset, config, mesh) if isinstance(dataset, data.Stream) else Resident(dataset, config, mesh)


def place(
    dataset: data.Dataset, normalisation: tuple[np.ndarray, np.ndarray | None], seed: int, mesh: Mesh
) -> tuple[StepInputs, dict[str, range]]:
    """Put the examples of all splits on every device, training first; return them and the range of each split.

    Args:
      dataset: the data set with its splits.
      normalisation: mean and standard deviation.
      seed: seed of the run.
      mesh: the devices.
    """
    ranges, start = {}, 0
    ordered = {"train": dataset.splits["train"], **dataset.splits}
    for name, split in ordered.items():
        ranges[name] = range(start, start + len(split.labels))
        start += len(split.labels)
    images, labels = (np.concatenate(parts) for parts in zip(*ordered.values(), strict=True))
    mean, std = normalisation
    inputs = {
        "images": images.reshape(len(images), -1),
        "labels": labels,
        "mean": np.broadcast_to(mean, images.shape[1:]),
        "std": std,
        "seed": np.uint32(seed),
    }
    return StepInputs(**parallel.replicate(inputs, mesh)), ranges


class Resident:
    """All examples lie on every device; a batch is indices of them."""

    most_steps = sampling.MOST_STEPS

    def __init__(self, dataset: data.Dataset, config: ConfigDict, mesh: Mesh) -> None:
        """Put ``dataset`` on the devices of ``mesh``."""
        self.normalisation = data.normalisation(dataset, config.data)
        self.examples, self._ranges = place(dataset, self.normalisation, config.seed, mesh)
        self.sizes = {name: len(split) for name, split in self._ranges.items()}
        self.image_shape = data.image_shape(dataset)
        self._seed, self._batch_size, self._devices = config.seed, config.batch_size, mesh.size

    def train(self, steps: range, wait: Callable[[], Any]) -> tuple[Any, float]:
        """Return the indices of ``steps``, int32 ``[steps, batch]``; the devices never wait for them."""
        return sampling.batch_indices(self._seed, steps, self._batch_size, self.sizes["train"]), 0.0

    def evaluation(self, split: str, batch_size: int) -> Generator[tuple[Any, Any]]:
        """Yield indices and weights."""
        # The same size for all splits, to compile once.
        size = sampling.evaluation_size(batch_size, sum(self.sizes.values()), self._devices)
        yield from sampling.evaluation_batches(self._ranges[split], size)

    def bad(self) -> dict[str, list[int]] | None:
        """Return None: nothing is decoded during training."""

    def remember(self, bad: dict[str, list[int]] | None) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Streamed:
    """Worker processes decode examples ahead of the step; a batch is images and labels."""

    most_steps = 1  # With more, the first step would have to wait until the batches of all were decoded.

    def __init__(self, dataset: data.Stream, config: ConfigDict, mesh: Mesh) -> None:
        """Compute how images are normalised, which takes seconds; no worker process starts yet."""
        self._config, self._mesh, self._sources = config, mesh, dataset.splits
        self.sizes = {name: len(source) for name, source in dataset.splits.items()}
        self._evaluated = {name: np.arange(size) for name, size in self.sizes.items()}
        if config.data.train_clean_examples is not None:
            order = sampling.epoch_order(0, 0, self.sizes["train"])
            self._evaluated["train"] = np.sort(order[: config.data.train_clean_examples])
        self.image_shape = data.image_shape(dataset)
        mean, std = self.normalisation = data.normalisation(dataset, config.data)
        inputs = {"mean": mean, "std": std, "seed": np.uint32(config.seed)}
        self.examples = StepInputs(images=None, labels=None, **parallel.replicate(inputs, mesh))
        self._bad = {name: np.zeros(size, bool) for name, size in self.sizes.items()}
        self._training: tuple[int, stream.Workers, stream.Prefetcher] | None = None
        self._skip = config.data.on_bad_image == "skip"

    def train(self, steps: range, wait: Callable[[], Any]) -> tuple[Any, float]:
        """Return images ``[1, batch, ...]`` and labels ``[1, batch]`` of the one step in ``steps``."""
        next_step, workers, ahead = self._training or self._begin(steps.start)
        if next_step != steps.start:  # A step made a second time, as when the origin of a divergence is searched.
            self.close()
            next_step, workers, ahead = self._begin(steps.start)
        waited = 0.0
        if not ahead.ready:
            wait()
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
        """Return the arguments that are the same for training and evaluation batches."""
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
        """Put this host's share of a batch on its devices, with new first ``axes``; return batch and weights."""
        for index in batch.bad[batch.bad >= 0].tolist():
            if not self._bad[split][index]:
                logging.warning("%s cannot be decoded and is skipped", self._sources[split][index][2])
            self._bad[split][index] = True
        arrays = tuple(array[axes] if axes else array for array in batch[:3])
        if self._config.parallel.mapper == "shard_map":
            arrays = parallel.shard(arrays, self._mesh, len(axes))
        return arrays[:2], arrays[2]

    def bad(self) -> dict[str, list[int]]:
        """Return the indices of the examples of each split that some process could not decode."""
        masks = self._bad
        if jax.process_count() > 1:
            masks = jax.tree.map(lambda mask: multihost_utils.process_allgather(mask).any(axis=0), masks)
        return {name: np.flatnonzero(mask).tolist() for name, mask in masks.items()}

    def remember(self, bad: dict[str, list[int]] | None) -> None:
        """Add ``bad``, the value of ``bad()`` in the checkpoint from which the run resumes."""
        for name, indices in (bad or {}).items():
            self._bad[name][indices] = True

    def close(self) -> None:
        """End the worker processes for training."""
        if self._training is not None:
            _, workers, ahead = self._training
            self._training = None
            ahead.close()
            workers.close()
