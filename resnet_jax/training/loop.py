"""Training: from a config to a run directory."""

import collections
import contextlib
import functools
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from resnet_jax import data, hosts, identity, models, registry
from resnet_jax.config import flatten
from resnet_jax.data import sampling
from resnet_jax.models.layers import onednn
from resnet_jax.rundir import KEPT, read_summary, saved_steps
from resnet_jax.stopping import stop_request
from resnet_jax.training import convolutions, optimizer, parallel, scaling
from resnet_jax.training.checkpoints import Checkpoints, digest
from resnet_jax.training.environment import versions
from resnet_jax.training.feed import Feed, open_feed
from resnet_jax.training.interventions import Interventions
from resnet_jax.training.program import Metrics, Program, evaluate, fitted
from resnet_jax.training.progress import announce
from resnet_jax.training.record import RunRecord, check_seen, check_workdir
from resnet_jax.training.reporter import Reporter
from resnet_jax.training.start import variables_of
from resnet_jax.training.step import labelled_images, without_optimizer

# Steps per dispatch on accelerators: enough that launching costs next to nothing, and few enough that a stop is soon.
STEPS_PER_DISPATCH = 100


def train(config: ConfigDict, workdir: pathlib.Path, command: list[str] | None = None) -> dict[str, Any]:
    """Train the net of ``config`` and record the run in ``workdir``, or resume the run that is there.

    Args:
      config: with the fields of ``resnet_jax.fields``.
      workdir: the run directory, described in ``docs/reference.md``.
      command: the words of the command line, for the record.

    Returns:
      The summary of the run: its "status" ("finished", "diverged" or "preempted") and its figures.

    Raises:
      UserError: the config, the data or the workdir cannot be used; nothing has been written.
    """
    with hosts.together():
        given = config.batch_size
        config = scaling.resolved(config, jax.device_count())  # Reports mistakes before data are loaded or downloaded.
        if config.batch_size != given:
            rate = config.optimizer.learning_rate
            logging.info("batch %d for %d: %d steps, learning rate %g", config.batch_size, given, config.steps, rate)
        if hosts.is_first_process():
            check_workdir(workdir, config)
        summary = read_summary(workdir)
        is_finished = summary is not None and is_run_over(summary, config)
    with hosts.together():
        identity.agree(
            {
                "--workdir": str(workdir),
                "config": identity.of_all_processes(config),
                "definitions": sorted(map(str, registry.used_by(flatten(config.to_dict())))),
                "versions": versions(),
                "--workdir holds the finished run": is_finished,
            }
        )
    if summary is not None and is_finished:
        logging.info("%s holds this run already", workdir)
        return summary

    with hosts.together():
        dataset = data.load(config.data)
        facts = data.facts(dataset)
        found = data.identify(dataset)
    with hosts.together():
        identity.agree({"data": identity.shared(found)})
    with hosts.together():
        program, interventions = fitted(config, facts)
    with hosts.together():
        form = convolutions.form_of_run(config, workdir, facts.image_shape, parallel.platform(program.mesh))
        start = None
        if config.from_run is not None and not saved_steps(workdir):
            start = variables_of(config, program, data.image_shape(dataset), dataset.class_names)
    with hosts.together():
        identity.agree({"net of config.from_run": start and digest(start, {}), "convolutions": form})
    with hosts.together(), onednn.computed_by(form):
        record = RunRecord(workdir, config, command or [], found)
    with hosts.together():
        check_seen(workdir)
    announce(config, dataset, program)
    with record, onednn.computed_by(form), contextlib.closing(open_feed(dataset, config, program.mesh)) as feed:
        del dataset  # Its examples are on the devices now.
        record.normalisation(*feed.normalisation)
        of_run = record.identity.of_checkpoint
        with contextlib.ExitStack() as folders:
            checkpoints = folders.enter_context(Checkpoints(workdir / "checkpoints", run=of_run))
            kept = None
            if config.keep_checkpoints:
                kept = folders.enter_context(Checkpoints(workdir / KEPT, newest=None, run=of_run))
            run = Run(config, program, interventions, feed, record, checkpoints, kept, start)
            with stop_request() as stopping, run.reporter.line:
                status = train_to_end(run, stopping)
        totals = models.totals(models.describe(program.model, feed.image_shape))
        return record.finish(status, run.step, *totals, feed.bad())


def kept_steps(config: ConfigDict) -> list[int]:
    """Return the steps after which the run of ``config`` keeps its net for good, in rising order."""
    if not config.keep_checkpoints:
        return []
    steps = {*config.keep_checkpoints, *optimizer.drops(config.optimizer, config.steps), config.steps}
    return sorted(step for step in steps if step <= config.steps)


def is_run_over(summary: dict[str, Any], config: ConfigDict) -> bool:
    """Return whether the run of ``summary`` has nothing left to do under ``config``."""
    if summary["status"] == "diverged":
        return config.stop_at_divergence or summary["steps"] == config.steps
    return summary["status"] == "finished"


def train_to_end(run: "Run", stopping: Callable[[], bool]) -> str:
    """Train ``run`` until its last step, until it diverges or until ``stopping()``, and return its status."""
    config, in_flight = run.config, InFlight(run.program.mesh, stopping)
    while True:
        evaluates = bool(run.due)
        stop = in_flight.stop or not run.evaluate_due(stopping)
        saves = run.step % config.checkpoint_every == 0 or run.is_training_over or stop
        if saves:
            run.save()
        run.keep()
        if stop or run.is_training_over:
            return "preempted" if run.due or not run.is_training_over else "finished"
        if evaluates or saves:
            run.reporter.pace.restart(run.step)
        in_flight.add(run.step, run.dispatch())
        waits = bool(run.due) or run.step % config.checkpoint_every == 0
        if config.stop_below_loss is not None:
            waits |= run.step % config.log_every == 0  # No step is made after the record that ends the run.
        for first, metrics in in_flight.collect(everything=waits):
            diverged_at = run.reporter.steps(first, metrics)
            if diverged_at is not None:
                run.diverge(diverged_at)
                return "diverged"
        if run.reporter.ends_run:
            run.end()


def first_batch_images(feed: Feed) -> np.ndarray:
    """Return the normalised images of the first batch of ``feed``, whose examples lie on the devices, not augmented."""
    batches, _ = feed.train(range(1), wait=lambda: None)
    images, _ = labelled_images(jax.device_get(feed.examples), batches[0])
    return np.asarray(images)


class InFlight:
    """Dispatches with metrics still unread by the host, and the votes on stopping that travel with them.

    Attributes:
      stop: whether the run is to stop, as far as this process knows. All processes learn it by collecting the same
        dispatch, and so stop at the same step.
    """

    def __init__(self, mesh: Mesh, stopping: Callable[[], bool]) -> None:
        self.stop = False
        self._mesh, self._stopping = mesh, stopping
        self._dispatches = collections.deque[tuple[int, Metrics, jax.Array | bool]]()

    def add(self, first: int, metrics: Metrics) -> None:
        """Add the dispatch that begins after step ``first``."""
        vote = hosts.any_process(self._stopping(), self._mesh)
        self.stop = vote is True
        self._dispatches.append((first, metrics, vote))

    def collect(self, everything: bool) -> Iterator[tuple[int, Metrics]]:
        """Yield and remove the dispatches, oldest first.

        The newest stays unless ``everything`` is True or the run is to stop: the devices compute it while the
        host reads the one before, so that neither waits.
        """
        while len(self._dispatches) > (0 if everything or self.stop else 1):
            first, metrics, vote = self._dispatches.popleft()
            self.stop = self.stop or bool(vote)
            yield first, metrics


class Run:
    """A run, from where its newest checkpoint left it.

    Attributes:
      config, program: config and program of the run.
      reporter: records and shows its figures.
      state: state after ``step`` steps; the devices may still be computing it.
      step: the steps given to the devices.
      due: splits still to be evaluated at this step.
      is_training_over: whether no step is left: all are made, or config.stop_below_loss has ended the run.
    """

    def __init__(
        self,
        config: ConfigDict,
        program: Program,
        interventions: Interventions,
        feed: Feed,
        record: RunRecord,
        checkpoints: Checkpoints,
        kept: Checkpoints | None,
        start: dict[str, Any] | None = None,
    ) -> None:
        """Restore the newest checkpoint; without one, begin with the variables ``start``, if None with drawn ones."""
        self.config, self.program = config, program
        self._feed, self._record, self._checkpoints, self._kept = feed, record, checkpoints, kept
        self._kept_steps = kept_steps(config)
        self.state = program.init(feed.image_shape, start)
        self._inputs = feed.examples._replace(**interventions._asdict())
        # State of a resumed run in addition to ``TrainState``.
        progress: dict[str, Any] = {"seconds": 0.0, "recent": [], "due": [], "bad": None, "over": False}
        restored = checkpoints.restore(self.state)
        if restored is not None:
            self.state, progress = restored
            logging.info("resuming after step %d of %d", int(self.state.step), config.steps)
        elif config.model.init == "lsuv" and start is None:
            self.state = program.init(feed.image_shape, first_batch_images=first_batch_images(feed))
        self.step = self._first_step = self._saved_step = int(self.state.step)
        if restored is None and start is not None:
            self._saved_step = -1  # Saved before its first step, so that a resumed run does not need the other run.
        self.due: list[str] = progress["due"]
        self.is_training_over = progress.get("over", False) or self.step == config.steps  # Older checkpoints lack it.
        feed.remember(progress["bad"])
        record.begin(self.step, progress["seconds"], self.due)
        self.reporter = Reporter(config, program.rate, feed.sizes["train"], record)
        self.reporter.begin(self.state, progress["recent"])
        # "train_clean" are training examples, not augmented; split "train" of the record is the running error.
        self._splits = {"train_clean" if name == "train" else name: name for name in feed.sizes}
        # Each dispatch is one step on a CPU, where launching costs little.
        default = 1 if parallel.platform(program.mesh) == "cpu" else STEPS_PER_DISPATCH
        self._steps_per_dispatch = min(config.steps_per_dispatch or default, feed.most_steps)

    def dispatch(self) -> Metrics:
        """Give the devices the next steps, and return the metrics of these."""
        # A dispatch ends where something is to be done, and at multiples of its length, so that lengths recur.
        config, first = self.config, self.step
        ends = (self._steps_per_dispatch, config.log_every, config.eval_every, config.checkpoint_every)
        kept = (step for step in self._kept_steps if step > first)
        self.step = min(config.steps, *(first - first % every + every for every in ends), *kept)
        wait = functools.partial(jax.block_until_ready, self.state)
        batches, waited = self._feed.train(range(first, self.step), wait)
        self.reporter.pace.data_waited(waited)
        self.state, metrics = self.program.train_steps(self.state, self._inputs, batches)
        if first == self._first_step:  # This dispatch was compiled, which does not count as training.
            jax.block_until_ready(metrics)
            self.reporter.pace.restart(self.step)
        self.is_training_over = self.step == config.steps
        if self.step % config.eval_every == 0 or self.is_training_over:
            self.due = list(self._splits)
        return metrics

    def end(self) -> None:
        """Make no further step: only evaluate, save and keep the net after the last one."""
        self.is_training_over = True
        self.due = list(self._splits)

    def evaluate_due(self, stopping: Callable[[], bool]) -> bool:
        """Evaluate and record the splits that are due; return False if a stop has left some of them undone."""
        while self.due:
            name = self.due[0]
            self.reporter.line.say(self.step, f"evaluating {name}")
            start = time.perf_counter()
            evaluation = self._feed.evaluation(self._splits[name], self.config.eval_batch_size)
            with contextlib.closing(evaluation) as batches:
                figures = evaluate(self.program, self.state, self._inputs, batches, stopping)
            if figures is None:
                return False
            self.reporter.write(self.step, name, figures, figures["examples"] / (time.perf_counter() - start))
            logging.info("step %d: %s error %.2f%%", self.step, name, 100 * figures["error"])
            self.due = self.due[1:]
        return True

    def save(self) -> None:
        """Save a checkpoint, unless there is one of this step."""
        if self.step == self._saved_step:
            return
        self._record.sync()
        progress = {
            "seconds": self._record.seconds,
            "recent": self.reporter.recent,
            "due": self.due,
            "bad": self._feed.bad(),
            "over": self.is_training_over,
        }
        self._checkpoints.save(self.step, self.state, progress)
        self._saved_step = self.step

    def keep(self) -> None:
        """Keep the net for good, without the optimiser's state, if it is to be kept after this step."""
        if self._kept is None or self.step in self._kept.steps:
            return
        if self.step not in self._kept_steps and not self.is_training_over:
            return
        self._kept.save(self.step, without_optimizer(self.state), progress={})

    def diverge(self, step: int) -> None:
        """Record that the run has diverged at ``step`` and ends there."""
        self.step = step
        sizes = self.config.batch_size, self._feed.sizes["train"]
        [batch] = sampling.batch_indices(self.config.seed, range(step - 1, step), *sizes)
        self._record.diverged(step, batch.tolist())
        logging.error("the loss of step %d is non-finite (inf or NaN): the run has diverged", step)
