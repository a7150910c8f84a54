"""Batches of a stream: images read, decoded and cropped by worker processes while the devices compute (grain).

A batch is a function of config, seed and step alone, as it is for data sets that are kept on the devices. So a run
resumes by starting the stream at its step, with any number of workers, and each host makes its share of every batch.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grain
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from resnet_jax.data import images, sampling
from resnet_jax.data.sources import ImageSource
from resnet_jax.errors import UserError
from resnet_jax.stopping import STOP_SIGNALS

# Keeps the draws of crops apart from others made from the same seed.
_CROPS = 0xC209
# After this many in a row that cannot be decoded, skipping ends in an error.
MOST_BAD = 100
SKIP_HINT = "Repair or remove it, or set config.data.on_bad_image=skip."


class HostBatch(NamedTuple):
    """A host's share of a batch.

    Attributes:
      images: uint8 ``[share, side, side, 3]``.
      labels: int32 ``[share]``.
      weights: float32 ``[share]``, 1, or 0 for examples that do not count.
      bad: int32 ``[share]``, the example that belongs in this row but cannot be decoded, or -1.
    """

    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    bad: np.ndarray


@dataclasses.dataclass(frozen=True)
class BatchMaker:
    """Makes the batches of a source: ``maker(number)``. Each worker process gets a copy.

    Attributes:
      source: the examples.
      side: height and width of the crops.
      share: the rows of each batch that this host makes.
      batch_size: over all hosts.
      skip: whether an example that cannot be decoded is replaced by the next one instead of raising an error.
    """

    source: ImageSource
    side: int
    share: range
    batch_size: int
    skip: bool

    def __call__(self, number: int) -> HostBatch:
        """Return this host's share of batch ``number``.

        Raises:
          BadImage: an example cannot be decoded.
        """
        count = len(self.share)
        batch = HostBatch(
            np.zeros((count, self.side, self.side, 3), np.uint8),
            np.zeros(count, np.int32),
            np.zeros(count, np.float32),
            np.full(count, -1, np.int32),
        )
        for row, (index, position) in enumerate(self.examples(number)):
            self.fill(batch, row, index, position)
        return batch

    def examples(self, number: int) -> Iterator[tuple[int, int]]:
        """Yield for each row the example and its position in the stream of all examples."""
        raise NotImplementedError

    def crop(self, encoded: bytes, where: str, position: int) -> np.ndarray:
        """Return the crop of a file that the net sees, uint8 ``[side, side, 3]``."""
        raise NotImplementedError

    def fill(self, batch: HostBatch, row: int, index: int, position: int) -> None:
        """Put example ``index`` in ``row`` of ``batch``."""
        for attempt in range(MOST_BAD):
            encoded, label, where = self.source[(index + attempt) % len(self.source)]
            try:
                batch.images[row] = self.crop(encoded, where, position)
            except images.BadImage:
                if not self.skip or attempt + 1 == MOST_BAD:
                    raise
                batch.bad[row] = index
            else:
                batch.labels[row], batch.weights[row] = label, 1
                return


@dataclasses.dataclass(frozen=True)
class TrainingBatches(BatchMaker):
    """The batch of each step, random but determined by seed and step.

    Attributes:
      seed: of order and crops.
      augmentation: how crops are drawn, a key of ``images.AUGMENTATIONS``.
    """

    seed: int
    augmentation: str

    def examples(self, number: int) -> Iterator[tuple[int, int]]:
        """Yield for each row the example and its position in the stream of all examples."""
        steps = range(number, number + 1)
        [indices] = sampling.batch_indices(self.seed, steps, self.batch_size, len(self.source))
        for row in self.share:
            yield int(indices[row]), number * self.batch_size + row

    def crop(self, encoded: bytes, where: str, position: int) -> np.ndarray:
        """Return a random crop, determined by seed and position."""
        rng = np.random.default_rng([self.seed, _CROPS, position])
        return images.train_crop(encoded, where, self.augmentation, rng, self.side)


@dataclasses.dataclass(frozen=True)
class EvaluationBatches(BatchMaker):
    """The central crops of some examples, each once; the last batch is padded with images of weight 0.

    An example that is skipped because it cannot be decoded has weight 0 too: it is not replaced.

    Attributes:
      chosen: the examples, int ``[count]``.
    """

    chosen: np.ndarray

    def __len__(self) -> int:
        return -(-len(self.chosen) // self.batch_size)

    def examples(self, number: int) -> Iterator[tuple[int, int]]:
        """Yield for each row the example and its position among the chosen ones."""
        for row in self.share:
            position = number * self.batch_size + row
            if position < len(self.chosen):
                yield int(self.chosen[position]), position

    def crop(self, encoded: bytes, where: str, position: int) -> np.ndarray:
        """Return the central crop."""
        return images.central_crop(encoded, where, self.side)

    def fill(self, batch: HostBatch, row: int, index: int, position: int) -> None:
        """Put example ``index`` in ``row`` of ``batch``."""
        encoded, label, where = self.source[index]
        try:
            batch.images[row] = self.crop(encoded, where, position)
        except images.BadImage:
            if not self.skip:
                raise
            batch.bad[row] = index
        else:
            batch.labels[row], batch.weights[row] = label, 1


class Workers:
    """Batches in order, made ahead of time by worker processes; an iterator that must be closed."""

    def __init__(self, maker: BatchMaker, numbers: range, workers: int) -> None:
        """Start ``workers`` processes, or one thread if 0, on batches ``numbers`` of ``maker``."""
        if not flags.FLAGS.is_parsed():  # Used as a library; grain asks for its own flags.
            flags.FLAGS.mark_as_parsed()
        # Each process makes one batch after another and keeps one ready.
        options = grain.ReadOptions(num_threads=0 if workers else 1, prefetch_buffer_size=0 if workers else 2)
        made = grain.MapDataset.range(numbers.start, numbers.stop).map(maker).to_iter_dataset(options)
        if workers:
            memory = grain.experimental.DatasetOptions(min_shm_size=least_shared(maker, workers))
            processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
            made = grain.experimental.WithOptionsIterDataset(made, memory)
            made = made.mp_prefetch(processes, worker_init_fn=ignore_signals_exit_with_parent)
        self._batches = iter(made)

    def __iter__(self) -> Iterator[HostBatch]:
        return self

    def __next__(self) -> HostBatch:
        """Return the next batch.

        Raises:
          UserError: an image cannot be decoded or read, or a worker process was killed.
        """
        try:
            return HostBatch(*next(self._batches))
        except images.BadImage as error:
            raise UserError(f"{error} {SKIP_HINT}") from error
        except RuntimeError as error:
            if "terminated unexpectedly" not in str(error):
                raise
            raise UserError(
                "a worker process that decodes images was killed, probably because memory ran out; the same command "
                "resumes the run, and fewer config.data.workers need less memory."
            ) from error

    def close(self) -> None:
        """End the worker processes."""
        self._batches.close()
        del self._batches
        gc.collect()  # Frees the batches that are ready now, not while Python shuts down.


def least_shared(maker: BatchMaker, workers: int) -> int:
    """Return the size in bytes from which arrays go to the main process by shared memory, "never" if it is too small.

    Containers often have 64 MiB of it, and a process that writes more than there is gets killed by a signal.
    """
    batch = len(maker.share) * maker.side**2 * 3
    with contextlib.suppress(OSError):
        shared = os.statvfs("/dev/shm")
        # One being written and one ready in each process, and those on their way to the devices.
        if shared.f_bavail * shared.f_frsize > batch * (2 * workers + 4):
            return 2**20
    return sys.maxsize


def ignore_signals_exit_with_parent(worker: int, workers: int) -> None:
    """Ignore signals, which the main process handles and then ends this one; exit when the main process is gone."""
    for number in (*STOP_SIGNALS, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Prefetcher:
    """An iterator whose items are made ahead of time by a thread; it must be closed."""

    def __init__(self, items: Iterator[Any], prepare: Callable[[Any], Any], depth: int = 2) -> None:
        """Start to take ``depth`` of ``items`` and ``prepare`` each, for example by putting it on the devices."""
        self._items, self._prepare = items, prepare
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "prefetch")
        self._waiting = collections.deque(self._thread.submit(self._make) for _ in range(depth))

    def _make(self) -> Any:
        item = next(self._items, None)
        return None if item is None else self._prepare(item)

    def __iter__(self) -> Iterator[Any]:
        return self

    @property
    def ready(self) -> bool:
        """Whether the next item is ready."""
        return self._waiting[0].done()

    def __next__(self) -> Any:
        item = self._waiting.popleft().result()
        if item is None:
            self._waiting.appendleft(self._thread.submit(lambda: None))
            raise StopIteration
        self._waiting.append(self._thread.submit(self._make))
        return item

    def close(self) -> None:
        """Discard the items that were not used."""
        self._thread.shutdown(cancel_futures=True)
        self._waiting.clear()


def workers_of(config: ConfigDict) -> int:
    """Return the number of processes that decode for ``config``, the ``data`` part: by default one per core."""
    return cores() if config.workers is None else config.workers


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
