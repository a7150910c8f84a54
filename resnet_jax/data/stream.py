"""Images of any size as a stream: read, decoded and cropped by worker processes while the devices compute (grain).

A batch is a function of config, seed and step, as it is of sets that lie on the devices: whoever makes it, and
whenever, it is the same. So a run resumes by beginning the stream at its step, with any number of workers, and each
host makes its share of every batch.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import gc
import hashlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import grain
import numpy as np
from absl import flags, logging
from ml_collections import ConfigDict

from resnet_jax.data import images, sampling
from resnet_jax.data.dataset import check_held_out
from resnet_jax.errors import UserError

# Addresses the draws of crops among those made from the same seed.
_CROPS = 0xC209
# From which the mean of the training images is taken.
MEAN_EXAMPLES = 1_000
# In a row; behind so many that cannot be decoded there is little hope.
MOST_BAD = 100


class Source(Protocol):
    """Image files in a fixed order, for random access from any process."""

    def __len__(self) -> int:
        """Return the number of examples."""

    def __getitem__(self, index: int) -> tuple[bytes, int, str]:
        """Return the content of file ``index``, its label and what to call it."""

    def digest(self) -> str:
        """Return what tells this source from others."""


class Subset(NamedTuple):
    """Some examples of a source, as a source."""

    source: Source
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[bytes, int, str]:  # type: ignore[override]
        return self.source[int(self.indices[index])]

    def digest(self) -> str:
        """Return what tells this source from others."""
        return f"{self.source.digest()} {self.indices.tolist()}"


class Stream(NamedTuple):
    """A classification set whose images are decoded when they are needed.

    Attributes:
      num_classes: number of classes.
      splits: "train" and "test", and "validation" where some of the training examples are held out.
      side: height and width of the crops that a net sees.
    """

    num_classes: int
    splits: dict[str, Source]
    side: int

    def digest(self) -> str:
        """Return the SHA-256 of what the sources tell of themselves, which is not the content of their images."""
        told = [(name, source.digest()) for name, source in sorted(self.splits.items())]
        return hashlib.sha256(repr((self.side, told)).encode()).hexdigest()


def hold_out_of_stream(splits: dict[str, Source], validation_examples: int) -> dict[str, Source]:
    """Return ``splits`` with some training examples, chosen at random but always the same, as split "validation".

    Raises:
      UserError: there are not so many training examples.
    """
    train = splits["train"]
    check_held_out(validation_examples, len(train))
    if validation_examples == 0:
        return splits
    order = sampling.epoch_order(0, 0, len(train))
    validation, remaining = np.sort(order[:validation_examples]), np.sort(order[validation_examples:])
    return splits | {"train": Subset(train, remaining), "validation": Subset(train, validation)}


class Batch(NamedTuple):
    """A host's share of a batch.

    Attributes:
      images: uint8 ``[share, side, side, 3]``.
      labels: int32 ``[share]``.
      weights: float32 ``[share]``, 0 for examples that do not count, else 1.
      bad: int32 ``[share]``, the example that should have been in this place but cannot be decoded, or -1.
    """

    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    bad: np.ndarray


@dataclasses.dataclass(frozen=True)
class Maker:
    """Makes batches of a source: ``maker(number)``. Worker processes get a copy.

    Attributes:
      source: the examples.
      side: height and width of the crops.
      share: which rows of each batch this host makes.
      batch_size: over all hosts.
      skip: whether the next example takes the place of one that cannot be decoded, instead of an error.
    """

    source: Source
    side: int
    share: range
    batch_size: int
    skip: bool

    def __call__(self, number: int) -> Batch:
        """Return this host's share of batch ``number``.

        Raises:
          BadImage: an example cannot be decoded.
        """
        count = len(self.share)
        batch = Batch(
            np.zeros((count, self.side, self.side, 3), np.uint8),
            np.zeros(count, np.int32),
            np.zeros(count, np.float32),
            np.full(count, -1, np.int32),
        )
        for row, (index, position) in enumerate(self.examples(number)):
            self.fill(batch, row, index, position)
        return batch

    def examples(self, number: int) -> Iterator[tuple[int, int]]:
        """Yield for each row the example and its place in the stream of all examples."""
        raise NotImplementedError

    def crop(self, encoded: bytes, where: str, position: int) -> np.ndarray:
        """Return what the net is to see of a file, uint8 ``[side, side, 3]``."""
        raise NotImplementedError

    def fill(self, batch: Batch, row: int, index: int, position: int) -> None:
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
class TrainingBatches(Maker):
    """The batch of each step, at random but settled by seed and step.

    Attributes:
      seed: of order and crops.
      augmentation: how crops are drawn, a key of ``images.AUGMENTATIONS``.
    """

    seed: int
    augmentation: str

    def examples(self, number: int) -> Iterator[tuple[int, int]]:
        """Yield for each row the example and its place in the stream of all examples."""
        steps = range(number, number + 1)
        [indices] = sampling.batch_indices(self.seed, steps, self.batch_size, len(self.source))
        for row in self.share:
            yield int(indices[row]), number * self.batch_size + row

    def crop(self, encoded: bytes, where: str, position: int) -> np.ndarray:
        """Return a random crop, settled by seed and place."""
        rng = np.random.default_rng([self.seed, _CROPS, position])
        return images.train_crop(encoded, where, self.augmentation, rng, self.side)


@dataclasses.dataclass(frozen=True)
class EvaluationBatches(Maker):
    """The central crops of some examples, each once; the last batch is filled with images of weight 0.

    One that cannot be decoded and is skipped has weight 0 too: no other takes its place.

    Attributes:
      chosen: the examples, int ``[count]``.
    """

    chosen: np.ndarray

    def __len__(self) -> int:
        return -(-len(self.chosen) // self.batch_size)

    def examples(self, number: int) -> Iterator[tuple[int, int]]:
        """Yield for each row the example and its place among the chosen ones."""
        for row in self.share:
            position = number * self.batch_size + row
            if position < len(self.chosen):
                yield int(self.chosen[position]), position

    def crop(self, encoded: bytes, where: str, position: int) -> np.ndarray:
        """Return the central crop."""
        return images.central_crop(encoded, where, self.side)

    def fill(self, batch: Batch, row: int, index: int, position: int) -> None:
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
    """Batches in order, made by worker processes ahead of their use; an iterator that must be closed."""

    def __init__(self, maker: Maker, numbers: range, workers: int) -> None:
        """Start ``workers`` processes, or with 0 a thread, on batches ``numbers`` of ``maker``."""
        if not flags.FLAGS.is_parsed():  # Used as a library; grain asks for its own flags.
            flags.FLAGS.mark_as_parsed()
        # Each process makes one batch after the other, and one lies ready.
        options = grain.ReadOptions(num_threads=0 if workers else 1, prefetch_buffer_size=0 if workers else 2)
        made = grain.MapDataset.range(numbers.start, numbers.stop).map(maker).to_iter_dataset(options)
        if workers:
            memory = grain.experimental.DatasetOptions(min_shm_size=least_shared(maker, workers))
            processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
            made = grain.experimental.WithOptionsIterDataset(made, memory)
            made = made.mp_prefetch(processes, worker_init_fn=outlive_signals_but_not_the_parent)
        self._batches = iter(made)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """Return the next batch.

        Raises:
          UserError: an image cannot be decoded or read, or a worker process is gone.
        """
        try:
            return Batch(*next(self._batches))
        except images.BadImage as error:
            raise UserError(f"{error} Mend or remove it, or set config.data.on_bad_image=skip.") from error
        except RuntimeError as error:
            if "terminated unexpectedly" not in str(error):
                raise
            raise UserError(
                "a process that decodes images was killed, as the system does when memory is short; the same command "
                "resumes the run, and a lower config.data.workers takes less memory."
            ) from error

    def close(self) -> None:
        """End the worker processes."""
        self._batches.close()
        del self._batches
        gc.collect()  # What lies ready goes back to the system now, and not when Python is half gone.


def least_shared(maker: Maker, workers: int) -> int:
    """Return from how many bytes on arrays go to the main process by shared memory: none if that is too small.

    In containers it often has 64 MiB, and who writes more than there is dies by a signal.
    """
    batch = len(maker.share) * maker.side**2 * 3
    with contextlib.suppress(OSError):
        shared = os.statvfs("/dev/shm")
        # In each process one being written and one lying ready, and those on their way to the devices.
        if shared.f_bavail * shared.f_frsize > batch * (2 * workers + 4):
            return 2**20
    return sys.maxsize


def outlive_signals_but_not_the_parent(worker: int, workers: int) -> None:
    """Leave signals to the main process, which saves before it ends this one; end this one if that is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Ahead:
    """An iterator whose items are made ahead of their use, in a thread; it must be closed."""

    def __init__(self, items: Iterator[Any], prepare: Callable[[Any], Any], depth: int = 2) -> None:
        """Begin to take ``depth`` of ``items`` and ``prepare`` each, as by putting it on the devices."""
        self._items, self._prepare = items, prepare
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "ahead")
        self._waiting = collections.deque(self._thread.submit(self._make) for _ in range(depth))

    def _make(self) -> Any:
        item = next(self._items, None)
        return None if item is None else self._prepare(item)

    def __iter__(self) -> Iterator[Any]:
        return self

    @property
    def ready(self) -> bool:
        """Whether the next item is there already."""
        return self._waiting[0].done()

    def __next__(self) -> Any:
        item = self._waiting.popleft().result()
        if item is None:
            self._waiting.appendleft(self._thread.submit(lambda: None))
            raise StopIteration
        self._waiting.append(self._thread.submit(self._make))
        return item

    def close(self) -> None:
        """Drop what is not used."""
        self._thread.shutdown(cancel_futures=True)
        self._waiting.clear()


def workers_of(config: ConfigDict) -> int:
    """Return how many processes decode under ``config`` (the ``data`` part): by default one for each core."""
    return cores() if config.workers is None else config.workers


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def central_crops(source: Source, indices: Iterable[int], side: int) -> Iterator[np.ndarray]:
    """Yield the central crops of examples ``indices``, but for those that cannot be decoded; by threads."""

    def crop(index: int) -> np.ndarray | None:
        encoded, _, where = source[index]
        try:
            return images.central_crop(encoded, where, side)
        except images.BadImage:
            return None

    with concurrent.futures.ThreadPoolExecutor() as threads:
        yield from (found for found in threads.map(crop, indices) if found is not None)


def whole_images(source: Source, skip: bool = False) -> Iterator[tuple[np.ndarray, int]]:
    """Yield every image of ``source``, uint8 ``[height, width, 3]`` in its own size, and its label; by threads.

    Raises:
      UserError: an image cannot be decoded, and it is not to ``skip`` such.
    """

    def decode(index: int) -> tuple[np.ndarray, int] | str:
        encoded, label, where = source[index]
        try:
            return images.decode(encoded, where), label
        except images.BadImage as error:
            return str(error)

    options = grain.ReadOptions(num_threads=cores(), prefetch_buffer_size=64)
    for found in grain.MapDataset.range(len(source)).map(decode).to_iter_dataset(options):
        if not isinstance(found, str):
            yield found
        elif skip:
            logging.warning("%s It is skipped.", found)
        else:
            raise UserError(f"{found} Mend or remove it, or set config.data.on_bad_image=skip.")


def mean_image(source: Source, side: int, each_pixel: bool) -> np.ndarray:
    """Return the mean of central crops of up to 1,000 examples in units of 255, the same ones each time.

    It is float32 ``[side, side, 3]`` or, if not of ``each_pixel``, ``[1, 1, 3]``.

    Raises:
      UserError: none of them can be decoded.
    """
    indices = sampling.epoch_order(0, 0, len(source))[:MEAN_EXAMPLES].tolist()
    total, count = np.zeros((side, side, 3)), 0
    for found in central_crops(source, indices, side):
        total, count = total + found, count + 1
    if not count:
        raise UserError(f"none of {len(indices)} images can be decoded; give other images as config.data.data_dir.")
    mean = total / (255 * count)
    return (mean if each_pixel else mean.mean(axis=(0, 1), keepdims=True)).astype(np.float32)
