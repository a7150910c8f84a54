"""Training: from a config to a run directory."""

import collections
import contextlib
import functools
import math
import pathlib
import signal
import time
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from resnet_jax import data, models
from resnet_jax.data import augment, sampling
from resnet_jax.rundir import read_json
from resnet_jax.training import fields, optimizer, parallel
from resnet_jax.training.checkpoints import Checkpoints
from resnet_jax.training.progress import Pace, ProgressLine, console
from resnet_jax.training.record import RunRecord, check_workdir
from resnet_jax.training.step import DeviceData, TrainState, eval_step, train_steps

Metrics = dict[str, Any]

# Enough that starting a program costs next to nothing, and few enough that a stop is soon.
STEPS_PER_DISPATCH = 100

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class Program(NamedTuple):
    """What a config compiles to.

    Attributes:
      model: the net.
      mesh: the devices.
      rate: learning rate of each step.
      init: makes the initial state for images ``(height, width, channels)``.
      train_steps: ``(state, data, indices) -> (state, metrics)`` over all devices; indices ``[steps, batch]``.
      eval_step: ``(state, data, indices, weights) -> sums`` over all devices.
    """

    model: nn.Module
    mesh: Mesh
    rate: optax.Schedule
    init: Callable[[tuple[int, ...]], TrainState]
    train_steps: Callable[..., tuple[TrainState, Metrics]]
    eval_step: Callable[..., Metrics]


def make_program(config: ConfigDict, num_classes: int, mesh: Mesh | None = None) -> Program:
    """Return the functions that train and evaluate the net of ``config``; nothing is compiled yet.

    Args:
      config: as ``configs/recipes.py`` defines it.
      num_classes: width of the head.
      mesh: the devices to train on; by default all.

    Raises:
      UserError: a field of the config has a value that cannot be.
    """
    mesh = mesh or parallel.device_mesh()
    fields.check(config, mesh.size)
    sync = config.batch_norm.sync
    axis_name = parallel.AXIS if sync else None
    model = models.build(config.model, num_classes, config.dtype, axis_name, **config.compile)
    rate = optimizer.learning_rate(config.optimizer, config.model.depth)
    sgd = optimizer.sgd(config.optimizer, rate)

    def init(image_shape: tuple[int, ...]) -> TrainState:
        variables = models.initial_variables(model, config.seed, image_shape)
        params = variables["params"]
        state = (np.zeros((), np.int32), params, variables["batch_stats"], sgd.init(params))
        return TrainState(*parallel.replicate(state, mesh))

    device_train_steps = functools.partial(
        train_steps,
        model=model,
        optimizer=sgd,
        padding=config.data.padding,
        flip=config.data.flip,
        sync_batch_norm=sync,
    )
    device_eval_step = functools.partial(eval_step, model=model)
    mapped = functools.partial(parallel.map_over_devices, mesh=mesh, mapper=config.parallel.mapper)
    return Program(
        model,
        mesh,
        rate,
        init,
        mapped(device_train_steps, batch_arguments=1, batch_axis=1, donate_state=True),
        mapped(device_eval_step, batch_arguments=2),
    )


def evaluate(
    program: Program, state: TrainState, examples: DeviceData, split: range, batch_size: int
) -> dict[str, float]:
    """Return the mean "loss" and "error" (a fraction) of ``state`` over every example of ``split``, each once.

    Args:
      program: of the run.
      state: the net to evaluate, with its running statistics.
      examples: on the devices.
      split: which of the examples.
      batch_size: about how many examples to evaluate at once; it changes no figure.
    """
    # No more than there are, so that a huge batch is not made of padding; the same for all splits, to compile once.
    batch_size = min(batch_size, len(examples.labels))
    batch_size = math.ceil(batch_size / program.mesh.size) * program.mesh.size
    batches = sampling.evaluation_batches(split, batch_size)
    sums = jax.device_get([program.eval_step(state, examples, *batch) for batch in batches])
    return {name: sum(float(batch[name]) for batch in sums) / len(split) for name in ("loss", "error")}


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


@contextlib.contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """Give a function that says whether to stop has been asked; asked again, the program ends at once.

    By Ctrl-C, by SIGTERM, or by SIGUSR2, with which Slurm announces that a job's time is taken away.
    """
    received = []

    def receive(number: int, frame: types.FrameType | None) -> None:
        received.append(number)
        signal.signal(number, previous[signal.Signals(number)])
        console.print("Stopping after this step; again to leave at once, without a checkpoint.")

    previous = {number: signal.signal(number, receive) for number in STOP_SIGNALS}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def train(config: ConfigDict, workdir: pathlib.Path, command: list[str] | None = None) -> dict[str, Any]:
    """Train the net of ``config`` and record the run in ``workdir``; resume the run that ``workdir`` holds.

    Args:
      config: as ``configs/recipes.py`` defines it.
      workdir: the run directory, described in ``docs/architecture.md``.
      command: the words of the command line, for the record.

    Returns:
      The summary of the run: its "status" ("finished", "diverged" or "preempted") and its figures.

    Raises:
      UserError: the config, the data or the workdir cannot be used; nothing has been written.
    """
    fields.check(config, jax.device_count())  # Mistakes are told before data are loaded, or even downloaded.
    check_workdir(workdir, config)
    summary = read_json(workdir / "summary.json")
    if summary and summary["status"] in ("finished", "diverged"):
        logging.info("%s holds this run already", workdir)
        return summary

    dataset = data.load(config.data)
    fields.check_against_data(config, dataset)
    program = make_program(config, dataset.num_classes)
    examples, splits = place(dataset.splits, config.seed, program.mesh)
    image_shape = examples.images.shape[1:]
    state = program.init(image_shape)
    with RunRecord(workdir, config, command or []) as record:
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            status, step = run_steps(config, program, state, examples, splits, record, checkpoints)
        totals = models.totals(models.describe(program.model, image_shape))
        return record.finish(status, step, *totals)


def run_steps(
    config: ConfigDict,
    program: Program,
    state: TrainState,
    examples: DeviceData,
    splits: dict[str, range],
    record: RunRecord,
    checkpoints: Checkpoints,
) -> tuple[str, int]:
    """Train from ``state``, or from the newest checkpoint, to the end; return the run's status and steps."""
    seconds = 0.0
    recent: list[dict[str, float]] = []  # Figures of the steps since the running training error was last recorded.
    restored = checkpoints.restore(state)
    if restored is not None:
        state, past = restored
        seconds, recent = past["seconds"], past["recent"]
        logging.info("resuming after step %d of %d", int(state.step), config.steps)
    first_step = step = int(state.step)
    record.begin(step, seconds)
    pace = Pace(step)

    def write(step: int, split: str, figures: Metrics, images_per_second: float) -> None:
        record.write(
            step,
            split,
            epoch=round(step * config.batch_size / len(splits["train"]), 4),
            loss=figures["loss"],
            error=figures["error"],
            lr=float(f"{float(program.rate(step - 1)):.6g}"),  # Float32 made readable.
            images_per_second=round(images_per_second, 1),
        )

    def settle(step: int, metrics: Metrics) -> bool:
        """Show and record the dispatch that ends with ``step``, once it is done; return whether the loss is finite."""
        nonlocal recent
        losses, errors = (jax.device_get(metrics[name]).tolist() for name in ("loss", "error"))
        recent += [{"loss": loss, "error": error} for loss, error in zip(losses, errors, strict=True)]
        progress.update(step, recent[-1], pace)
        if step % config.log_every and step != config.steps:
            return True
        means = {name: float(np.mean([figures[name] for figures in recent])) for name in ("loss", "error")}
        recent = []
        write(step, "train", means, pace.steps_per_second(step) * config.batch_size)
        progress.log(step, means, pace)
        return math.isfinite(means["loss"])

    dispatch = config.steps_per_dispatch or (1 if jax.default_backend() == "cpu" else STEPS_PER_DISPATCH)
    stop, unsettled = False, collections.deque[tuple[int, Metrics]]()
    with stop_request() as stopping, ProgressLine(step, config.steps, config.batch_size) as progress:
        while step < config.steps and not stop:
            # A dispatch ends where something is to be done, and at multiples of its length, so that lengths recur.
            ends = (dispatch, config.log_every, config.eval_every, config.checkpoint_every)
            until = min(config.steps, *(step - step % every + every for every in ends))
            indices = sampling.batch_indices(config.seed, range(step, until), config.batch_size, len(splits["train"]))
            state, metrics = program.train_steps(state, examples, indices)
            if step == first_step:  # Compiling is over.
                jax.block_until_ready(metrics)
                pace.restart(until)
            step, stop = until, stopping()
            last = step == config.steps
            evaluates = step % config.eval_every == 0 or last
            saves = step % config.checkpoint_every == 0 or last or stop
            # The devices are at the newest dispatch while the host settles the one before: neither waits.
            unsettled.append((step, metrics))
            while len(unsettled) > (0 if evaluates or saves else 1):
                settled = unsettled.popleft()
                if not settle(*settled):
                    logging.error("the loss at step %d is not finite: the run has diverged", settled[0])
                    return "diverged", settled[0]
            if evaluates:
                for name, split in splits.items():
                    progress.say(step, f"evaluating {name}")
                    start = time.perf_counter()
                    figures = evaluate(program, state, examples, split, config.eval_batch_size)
                    # On training examples as they are, by the running statistics; "train" is the running error.
                    recorded_name = "train_clean" if name == "train" else name
                    write(step, recorded_name, figures, len(split) / (time.perf_counter() - start))
                    logging.info("step %d: %s error %.2f%%", step, recorded_name, 100 * figures["error"])
            if saves:
                checkpoints.save(step, state, {"seconds": record.seconds, "recent": recent})
            if evaluates or saves:
                pace.restart(step)
    return "finished" if step == config.steps else "preempted", step
