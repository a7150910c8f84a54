"""Writing the run directory, which ``resnet_jax.rundir`` describes, and checking whether a folder can become one."""

import contextlib
import json
import math
import os
import pathlib
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from absl import logging
from ml_collections import ConfigDict
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from resnet_jax import hosts, identity, registry
from resnet_jax.config import flatten
from resnet_jax.errors import UserError
from resnet_jax.fields import RUN_FIELDS
from resnet_jax.identity import Identity
from resnet_jax.rundir import (
    FORMAT_VERSION,
    cut_off,
    read_config,
    read_environments,
    read_metrics,
    write_config,
    write_normalisation,
)
from resnet_jax.safe_files import open_own, within, write_json, write_text, writing
from resnet_jax.training.environment import environment, versions
from resnet_jax.training.lock import lock
from resnet_jax.training.optimizer import drops

# Seconds after which a host of a network file system sees another's files: NFS caches attributes for at most that long.
SEEN_SECONDS = 60


def check_workdir(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Raise a UserError unless ``workdir`` can take a run of ``config``; nothing is written.

    It can if it is new or empty, or if it holds a run of the same config, which is then resumed.
    """
    try:
        workdir.exists()
    except OSError as error:  # A name can be too long.
        raise UserError(f"--workdir={workdir} cannot be ({error.strerror}); give another --workdir.") from error
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir={workdir} is a file; give another --workdir.")
    existing = workdir
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"--workdir={workdir} cannot be written, because {existing} cannot; give another --workdir.")
    recorded = read_config(workdir)
    if recorded is None:
        if workdir.is_dir() and any(file.suffix != ".partial" and file.name != "lock" for file in workdir.iterdir()):
            raise UserError(f"--workdir={workdir} is not empty and not a run directory; choose another --workdir.")
        return
    at_first = identity.read(workdir)
    if at_first is not None:
        identity.check_config(at_first, recorded.config, workdir)
    old, new = flatten(recorded.config.to_dict()), flatten(config.to_dict())
    differing = [name for name in RUN_FIELDS if old[name] != new[name]]
    there, here = (drops(each.optimizer, each.steps) for each in (recorded.config, config))
    if there == here:  # Milestones may differ in rounding, or under a schedule that has none.
        differing = [name for name in differing if name != "optimizer.milestones"]
    if differing:
        changes = ", ".join(f"config.{name} ({old[name]} there, {new[name]} here)" for name in differing)
        raise UserError(
            f"--workdir={workdir} holds a run of another config, differing in {changes}; "
            "give another --workdir or the same config."
        )
    registry.check_definitions(recorded.registered, workdir)


def check_seen(workdir: pathlib.Path) -> None:
    """Raise a UserError unless this process sees the first process's record in ``workdir``."""
    patience = time.monotonic() + SEEN_SECONDS
    while not (workdir / "config.json").exists():
        if time.monotonic() < patience:
            time.sleep(1)
            continue
        raise UserError(
            f"--workdir={workdir} of process 0 is not seen here; give a folder that all hosts share, by its whole path."
        )


class RunRecord:
    """Writes the run directory of one run, in the first process only; a context that closes its files."""

    def __init__(self, workdir: pathlib.Path, config: ConfigDict, command: list[str], data: dict[str, Any]) -> None:
        """Create ``workdir`` if it is missing, lock it, and record config, data and environment.

        Args:
          workdir: the run directory; ``check_workdir`` must accept it.
          config: config of the run.
          command: the words of the command line that started the run.
          data: identity of the data, from ``data.identify``.

        Raises:
          UserError: the directory cannot be written, another process is writing there, or it holds a run on other data.
        """
        self.workdir = workdir
        self._config = config
        self._here = Identity(identity.of_config(config), data, versions())
        self._writes = hosts.is_first_process()
        self._open = contextlib.ExitStack()
        if not self._writes:
            return
        with writing(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
            self._open.enter_context(lock(workdir))
            check_workdir(workdir, config)  # Another process may have started a run there since the first check.
            if not (workdir / "config.json").exists():
                write_config(workdir, config, command)
            starts = read_environments(workdir)
            changes = self._identify(is_first_start=not starts)
            for change in changes:
                logging.warning("%s: %s", workdir, change)
            start = environment() | ({"warnings": changes} if changes else {})
            write_json(workdir / "environment.json", [*starts, start])

    def _identify(self, is_first_start: bool) -> list[str]:
        """Record the identity of the run, or compare it with the record; return a message for each harmless change."""
        recorded, at_first = identity.read(self.workdir), read_config(self.workdir)
        assert at_first is not None
        if recorded is None:
            self._here = self._here._replace(config=identity.of_config(at_first.config))
            if not is_first_start:  # Recorded by ``begin``, once its checkpoints do not show that these are others.
                return ["its first start recorded nothing of its data, which are recorded now."]
            write_json(self.workdir / identity.FILE, self._here._asdict())
            return []
        identity.check_data(recorded, self._here.data, self.workdir)
        old, new = map(identity.of_all_processes, (at_first.config, self._config))
        changed = [name for name in old if old[name] != new[name] and name != "optimizer.milestones"]
        fields = [f"config.{name} is {new[name]!r} now, {old[name]!r} at the first start." for name in changed]
        return identity.later_start(recorded, self._here) + fields

    @property
    def identity(self) -> Identity:
        """The identity of the run, as recorded at its first start."""
        return identity.read(self.workdir) or self._here

    def normalisation(self, mean: np.ndarray, std: np.ndarray | None) -> None:
        """Record the normalisation of images, so that the net can be used without the training data."""
        if self._writes:
            with writing(self.workdir):
                write_normalisation(self.workdir, mean, std, self.identity.of_checkpoint)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with writing(self.workdir):
            self._open.close()

    def begin(self, step: int, seconds: float, due: Sequence[str] = ()) -> None:
        """Start to record after ``step`` steps, and drop the records of everything that is now computed again.

        A run that ended some time after its last checkpoint has left such records.

        Args:
          step: the steps made so far.
          seconds: the time they took.
          due: splits that will be evaluated at this step.
        """
        self._start = time.perf_counter() - seconds
        if not self._writes:
            return
        with writing(self.workdir):
            if not (self.workdir / identity.FILE).exists():
                write_json(self.workdir / identity.FILE, self._here._asdict())
            for ended in ("summary.json", "diverged.json"):
                (self.workdir / ended).unlink(missing_ok=True)
            path = self.workdir / "metrics.jsonl"
            if cut_off(path):
                logging.warning("the last line of %s is incomplete and is dropped", path)
            kept = [
                line
                for line in read_metrics(path)
                if line["step"] < step or (line["step"] == step and line["split"] not in due)
            ]
            write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
            self._metrics = self._open.enter_context(open_own(path, "a"))
            # Not tensorboardX's SummaryWriter, whose thread hangs for ever when the disk is full.
            tensorboard = within(self.workdir / "tensorboard")
            tensorboard.mkdir(exist_ok=True)
            self._events = EventsWriter(str(tensorboard / "events"), f".{os.getpid()}.{step}")
            self._open.callback(self._events.close)
            self._events.write_event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    @property
    def seconds(self) -> float:
        """Time the run has taken so far, over all its starts."""
        return time.perf_counter() - self._start

    def write(self, step: int, split: str, **scalars: float) -> None:
        """Record ``scalars`` of ``split`` after ``step`` steps; non-finite ones, which JSON cannot hold, as null.

        Raises:
          UserError: the directory can no longer be written.
        """
        if not self._writes:
            return
        finite = {name: value for name, value in scalars.items() if math.isfinite(value)}
        line = {"step": step, "split": split, **dict.fromkeys(scalars), **finite, "seconds": round(self.seconds, 3)}
        values = [Summary.Value(tag=f"{split}/{name}", simple_value=value) for name, value in finite.items()]
        self._check_it_is_there()
        with writing(self.workdir):
            self._metrics.write(json.dumps(line) + "\n")
            self._metrics.flush()
            self._events.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
            self._events.flush()

    def sync(self) -> None:
        """Write the record through to the disk, so that a checkpoint is never newer than the record."""
        if self._writes:
            self._check_it_is_there()
            with writing(self.workdir):
                os.fsync(self._metrics.fileno())

    def _check_it_is_there(self) -> None:
        """Raise a UserError if the file of metrics, which stays open, has left the run directory."""
        with contextlib.suppress(OSError):
            path = self.workdir / "metrics.jsonl"
            if os.path.samestat(path.stat(), os.fstat(self._metrics.fileno())):
                return
        raise UserError(
            f"{self.workdir} or its metrics.jsonl was removed or replaced while the run was writing there; the same "
            "command continues from what is there now, or starts over."
        )

    def diverged(self, step: int, indices: list[int]) -> None:
        """Record that the loss of ``step`` is non-finite, and the ``indices`` of the training examples of that step."""
        if self._writes:
            with writing(self.workdir):
                write_json(self.workdir / "diverged.json", {"step": step, "indices": indices})

    def finish(
        self,
        status: str,
        step: int,
        parameters: int,
        multiply_adds: int,
        bad: dict[str, list[int]] | None = None,
    ) -> dict[str, Any]:
        """Return the summary of a run that ended after ``step`` steps; the first process writes it.

        Args:
          status: "finished", "diverged" or "preempted"; a finished run whose final loss is non-finite counts as
            diverged.
          step: the steps made.
          parameters: number of parameters of the net.
          multiply_adds: multiply-adds of one forward pass for one image.
          bad: indices of the examples of each split that could not be decoded; None for a data set that is not
            decoded during training.
        """
        if self._writes:
            self._check_it_is_there()
        metrics = read_metrics(self.workdir / "metrics.jsonl")
        splits = dict.fromkeys(line["split"] for line in metrics)
        of = {split: [line for line in metrics if line["split"] == split] for split in splits}
        figures = ("step", "loss", "error")
        final = {split: {name: of[split][-1].get(name) for name in figures} for split in splits}
        summary = {
            "version": FORMAT_VERSION,
            "status": status,
            "steps": step,
            "seconds": round(self.seconds, 1),
            "parameters": parameters,
            "multiply_adds": multiply_adds,
            "skipped_images": None if bad is None else {split: len(indices) for split, indices in bad.items()},
            "final": final,
            "best": {
                split: {name: min(of[split], key=lambda line: line["error"]).get(name) for name in figures}
                for split in splits
            },
        }
        if status == "finished" and any(figure["loss"] is None for figure in final.values()):
            summary["status"] = "diverged"
        if self._writes:
            with writing(self.workdir):
                write_json(self.workdir / "summary.json", summary)
        return summary
