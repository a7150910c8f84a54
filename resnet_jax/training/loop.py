"""Training: from a config to a run directory."""

import collections
import contextlib
import functools
import itertools
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from resnet_jax import data, models
from resnet_jax.backend import DETERMINISTIC_FLAG
from resnet_jax.config import check, check_against_data
from resnet_jax.data import sampling
from resnet_jax.errors import UserError
from resnet_jax.rundir import read_json
from resnet_jax.training import optimizer, parallel, scaling
from resnet_jax.training.checkpoints import Checkpoints
from resnet_jax.training.feed import Feed, open_feed
from resnet_jax.training.progress import Pace, ProgressLine
from resnet_jax.training.record import RunRecord, check_workdir
from resnet_jax.training.step import Augmentation, Batch, DeviceData, TrainState, eval_step, train_steps
from resnet_jax.training.stopping import stop_request

Metrics = dict[str, Any]

# Enough that starting a program costs next to nothing, and few enough that a stop is soon.
STEPS_PER_DISPATCH = 100


class Program(NamedTuple):
    """What a config compiles to.

    Attributes:
      model: the net.
      mesh: the devices.
      rate: learning rate of each step, but for plateaus.
      init: makes the initial state for images ``(height, width, channels)``.
      train_steps: ``(state, data, batches) -> (state, metrics)`` over all devices, of batches as a feed gives them.
      eval_step: ``(state, data, batch, weights) -> sums`` over all devices.
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
      config: with the fields of ``resnet_jax.config``.
      num_classes: width of the head.
      mesh: the devices to train on; by default all.

    Raises:
      UserError: a field of the config has a value that cannot be.
    """
    mesh = mesh or parallel.device_mesh()
    check(config, mesh.size)
    flags = os.environ.get("XLA_FLAGS", "")
    if config.deterministic and jax.default_backend() == "gpu" and DETERMINISTIC_FLAG not in flags:
        raise UserError(f"config.deterministic=True needs {DETERMINISTIC_FLAG} in XLA_FLAGS before JAX starts.")
    model = build_net(config, num_classes)
    rate = optimizer.learning_rate(config.optimizer, config.model.depth, config.steps)
    device_train_steps = functools.partial(
        train_steps,
        model=model,
        optimizer=optimizer.sgd(config.optimizer, rate),
        augmentation=augmentation(config),
        sync_batch_norm=config.batch_norm.sync,
    )
    device_eval_step = functools.partial(eval_step, model=model)
    mapped = functools.partial(
        parallel.map_over_devices,
        mesh=mesh,
        mapper=config.parallel.mapper,
        own_batches=config.data.image_size is not None,
    )
    return Program(
        model,
        mesh,
        rate,
        functools.partial(initial_state, config, model, mesh),
        mapped(device_train_steps, batch_arguments=1, batch_axis=1, donate_state=True),
        mapped(device_eval_step, batch_arguments=2),
    )


def augmentation(config: ConfigDict) -> Augmentation:
    """Return what is done to training images on the devices."""
    return Augmentation(config.data.padding, config.data.flip, config.data.color_noise)


def build_net(config: ConfigDict, num_classes: int) -> nn.Module:
    """Return the net that ``config`` trains, with a head of width ``num_classes``."""
    axis_name = parallel.AXIS if config.batch_norm.sync else None
    return models.build(config.model, num_classes, config.dtype, axis_name, **config.compile)


def initial_state(config: ConfigDict, model: nn.Module, mesh: Mesh, image_shape: tuple[int, ...]) -> TrainState:
    """Return the state that training of ``model`` begins with, whole on every device of ``mesh``."""
    variables = models.initial_variables(model, config.seed, image_shape)
    params = variables["params"]
    rate = optimizer.learning_rate(config.optimizer, config.model.depth, config.steps)
    sgd = optimizer.sgd(config.optimizer, rate)
    state = (np.zeros((), np.int32), params, variables["batch_stats"], sgd.init(params))
    return TrainState(*parallel.replicate(state, mesh))


def evaluate(
    program: Program,
    state: TrainState,
    examples: DeviceData,
    batches: Iterable[tuple[Batch, Any]],
    stopping: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Return the mean "loss" and "error" (a fraction) of ``state`` over the "examples" of ``batches``, their number.

    Args:
      program: of the run.
      state: the net to evaluate, with its running statistics.
      examples: on the devices.
      batches: batches and weights of their examples.
      stopping: whether to stop has been asked of this process; if it has in any, None is returned.
    """
    totals = {"loss": 0.0, "error": 0.0, "weight": 0.0}
    launched = collections.deque[tuple[Metrics, Any]]()
    # The devices are at the newest batch while the host reads the one before: neither waits.
    for batch in itertools.chain(batches, [None]):
        if batch is not None:
            sums = program.eval_step(state, examples, *batch)
            launched.append((sums, parallel.any_process(stopping(), program.mesh)))
        if batch is None or len(launched) > 1:
            sums, stop = launched.popleft()
            if stop:
                return None
            for name in totals:
                totals[name] += float(sums[name])
    examples_seen = totals.pop("weight")
    means = {name: total / examples_seen if examples_seen else math.nan for name, total in totals.items()}
    return means | {"examples": examples_seen}


def train(config: ConfigDict, workdir: pathlib.Path, command: list[str] | None = None) -> dict[str, Any]:
    """Train the net of ``config`` and record the run in ``workdir``; resume the run that ``workdir`` holds.

    Args:
      config: with the fields of ``resnet_jax.config``.
      workdir: the run directory, described in ``docs/architecture.md``.
      command: the words of the command line, for the record.

    Returns:
      The summary of the run: its "status" ("finished", "diverged" or "preempted") and its figures.

    Raises:
      UserError: the config, the data or the workdir cannot be used; nothing has been written.
    """
    with parallel.together():
        config = scaling.resolved(config, jax.device_count())  # Tells mistakes before data are loaded or downloaded.
        if jax.process_index() == 0:
            check_workdir(workdir, config)
        summary = read_json(workdir / "summary.json")
    if summary and is_over(summary, config):
        logging.info("%s holds this run already", workdir)
        return summary

    with parallel.together():
        dataset = data.load(config.data)
        examples, _ = data.examples(dataset, "train")
        check_against_data(config, examples, data.image_shape(dataset))
        program = make_program(config, dataset.num_classes)
    with parallel.together():
        record = RunRecord(workdir, config, command or [])
    with record, contextlib.closing(open_feed(dataset, config, program.mesh)) as feed:
        del dataset  # It is on the devices now.
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            state = program.init(feed.image_shape)
            status, step = run_steps(config, program, state, feed, record, checkpoints)
        totals = models.totals(models.describe(program.model, feed.image_shape))
        return record.finish(status, step, *totals, feed.sha256, feed.bad())


def is_over(summary: dict[str, Any], config: ConfigDict) -> bool:
    """Return whether the run of ``summary`` has nothing left to do under ``config``."""
    if summary["status"] == "diverged":
        return config.stop_at_divergence or summary["steps"] == config.steps
    return summary["status"] == "finished"


def run_steps(
    config: ConfigDict,
    program: Program,
    state: TrainState,
    feed: Feed,
    record: RunRecord,
    checkpoints: Checkpoints,
) -> tuple[str, int]:
    """Train from ``state``, or from the newest checkpoint, to the end; return the run's status and steps."""
    # On training examples as they are, by the running statistics; split "train" is the running error.
    evaluated = {"train_clean" if name == "train" else name: name for name in feed.sizes}
    # What a resumed run must know besides the state: the time taken, figures of the steps since the running training
    # error was last recorded, splits still to be evaluated at this step, and examples that could not be decoded.
    past: dict[str, Any] = {"seconds": 0.0, "recent": [], "due": [], "bad": None}
    restored = checkpoints.restore(state)
    if restored is not None:
        state, past = restored
        logging.info("resuming after step %d of %d", int(state.step), config.steps)
    recent, due = past["recent"], past["due"]
    feed.remember(past["bad"])
    first_step = step = saved_step = int(state.step)
    record.begin(step, past["seconds"], due)
    lr_scale = float(optimizer.plateau_scale(state.opt_state))
    pace = Pace(step)

    def write(step: int, split: str, figures: Metrics, images_per_second: float, data_wait: float = math.nan) -> None:
        record.write(
            step,
            split,
            epoch=round(step * config.batch_size / feed.sizes["train"], 4),
            loss=figures["loss"],
            error=figures["error"],
            lr=float(f"{float(program.rate(step - 1)) * lr_scale:.6g}"),  # Float32 made readable.
            images_per_second=round(images_per_second, 1),
            data_wait=round(data_wait, 4),
        )

    def settle(first: int, metrics: Metrics) -> int | None:
        """Show and record the dispatch that begins behind step ``first``, once it is done.

        Returns:
          The step at which the run has diverged and is to stop; None if it goes on.
        """
        nonlocal recent, lr_scale
        names = ("loss", "error", "lr_scale")
        losses, errors, lr_scales = (jax.device_get(metrics[name]).tolist() for name in names)
        good = next((place for place, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
        diverged = good < len(losses) and config.stop_at_divergence
        done = good + 1 if diverged else len(losses)
        recent += [{"loss": loss, "error": error} for loss, error in zip(losses[:done], errors[:done], strict=True)]
        step, lr_scale = first + done, lr_scales[done - 1]
        progress.update(step, recent[-1], pace)
        if step % config.log_every == 0 or step == config.steps or diverged:
            means = {name: float(np.mean([figures[name] for figures in recent])) for name in ("loss", "error")}
            recent = []
            write(step, "train", means, pace.steps_per_second(step) * config.batch_size, pace.data_wait(step))
            progress.log(step, means, pace)
        if not diverged:
            return None
        steps = range(step - 1, step)
        [batch] = sampling.batch_indices(config.seed, steps, config.batch_size, feed.sizes["train"])
        record.diverged(step, batch.tolist())
        logging.error("the loss of step %d is not finite: the run has diverged", step)
        return step

    dispatch = config.steps_per_dispatch or (1 if jax.default_backend() == "cpu" else STEPS_PER_DISPATCH)
    dispatch = min(dispatch, feed.most_steps)
    stop, unsettled = False, collections.deque[tuple[int, Metrics, Any]]()
    with stop_request() as stopping, ProgressLine(step, config.steps, config.batch_size) as progress:
        while True:
            pending = bool(due)
            while due and not stop:
                progress.say(step, f"evaluating {due[0]}")
                start, split = time.perf_counter(), evaluated[due[0]]
                with contextlib.closing(feed.evaluation(split, config.eval_batch_size)) as batches:
                    figures = evaluate(program, state, feed.data, batches, stopping)
                if figures is None:
                    stop = True
                    break
                write(step, due[0], figures, figures["examples"] / (time.perf_counter() - start))
                logging.info("step %d: %s error %.2f%%", step, due[0], 100 * figures["error"])
                due = due[1:]
            saves = step % config.checkpoint_every == 0 or step == config.steps or stop
            if saves and step > saved_step:
                record.sync()
                checkpoints.save(
                    step, state, {"seconds": record.seconds, "recent": recent, "due": due, "bad": feed.bad()}
                )
                saved_step = step
            if stop or step == config.steps:
                break
            if pending or saves:
                pace.restart(step)

            # A dispatch ends where something is to be done, and at multiples of its length, so that lengths recur.
            ends = (dispatch, config.log_every, config.eval_every, config.checkpoint_every)
            until = min(config.steps, *(step - step % every + every for every in ends))
            batches, waited = feed.train(range(step, until), functools.partial(jax.block_until_ready, state))
            pace.data_waited(waited)
            state, metrics = program.train_steps(state, feed.data, batches)
            if step == first_step:  # Compiling is over.
                jax.block_until_ready(metrics)
                pace.restart(until)
            asked = parallel.any_process(stopping(), program.mesh)
            stop = asked is True  # Of several processes, all hear of it together, when they settle this dispatch.
            unsettled.append((step, metrics, asked))
            step = until
            if step % config.eval_every == 0 or step == config.steps:
                due = list(evaluated)
            # The devices are at the newest dispatch while the host settles the one before: neither waits.
            while len(unsettled) > (0 if due or stop or step % config.checkpoint_every == 0 else 1):
                first, metrics, asked = unsettled.popleft()
                stop = stop or bool(asked)
                diverged_at = settle(first, metrics)
                if diverged_at is not None:
                    return "diverged", diverged_at
    return "preempted" if due or step < config.steps else "finished", step
