"""Checkpoints of a run, by Orbax, each with a digest of everything it holds."""

import copy
import hashlib
import json
import math
import os
import pathlib
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from resnet_jax import identity
from resnet_jax.errors import UserError
from resnet_jax.hosts import is_lost_process
from resnet_jax.safe_files import within, writing
from resnet_jax.training.step import TrainState

# Orbax warns of every folder that is only read, and logs tracebacks of errors that it then raises.
logging.get_absl_logger().addFilter(lambda record: "/orbax/" not in record.pathname)


class Checkpoints:
    """The checkpoints of one run, by default its newest two; they are written while training continues."""

    def __init__(
        self,
        folder: pathlib.Path,
        read_only: bool = False,
        newest: int | None = 2,
        run: dict[str, Any] | None = None,
    ) -> None:
        """Open ``folder``, and create it if it is missing; every process of a run must do so.

        Args:
          folder: folder of the checkpoints.
          read_only: whether nothing in it is changed, so that another process may be writing there.
          newest: number of checkpoints kept; None for all.
          run: the identity of their run, ``Identity.of_checkpoint``; None for no check.

        Raises:
          UserError: the folder cannot be written, or it is a link that leaves its run, or has one.
        """
        self._folder, self._run, self._read_only = folder.absolute(), run, read_only
        within(folder)
        for path, folders, files in os.walk(folder):
            for inside in (pathlib.Path(path, name) for name in (*folders, *files)):
                if inside.is_symlink():
                    within(inside, folder)
        if read_only:
            options = ocp.CheckpointManagerOptions(read_only=True)
        else:
            options = ocp.CheckpointManagerOptions(max_to_keep=newest, cleanup_tmp_directories=True)
        with writing(self._folder):
            self._manager = ocp.CheckpointManager(self._folder, item_names=("state", "progress"), options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until the last checkpoint is complete."""
        with writing(self._folder):
            self._manager.close()  # Waits, and raises an error for a part that cannot be written.

    def save(self, step: int, state: TrainState, progress: dict[str, Any]) -> None:
        """Save a checkpoint, in the background.

        Args:
          step: the steps made.
          state: the state after these steps.
          progress: everything else that a resumed run needs, for JSON.

        Raises:
          UserError: this checkpoint, or the one before, cannot be written.
        """
        progress = copy.deepcopy(progress)  # The caller may change it while it is written in the background.
        content = {"progress": progress, "run": self._run, "sha256": digest(state, progress)}
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(content))
        with writing(self._folder):
            self._manager.save(step, args=items, force=True)

    @property
    def steps(self) -> list[int]:
        """The steps that have a checkpoint."""
        return sorted(self._manager.all_steps())

    def restore(self, template: TrainState, before: float = math.inf) -> tuple[TrainState, dict[str, Any]] | None:
        """Return state and progress of the newest undamaged checkpoint; None if there is no checkpoint.

        Newer ones that are damaged are removed with a warning (if ``read_only``, ignored with a warning); their steps
        will be made again.

        Args:
          template: a state on the devices on which the restored state is to be placed.
          before: only checkpoints of fewer steps count.

        Raises:
          UserError: there are checkpoints, but all are damaged, or one is of another run or of a net of other shapes.
        """
        damaged = []
        for step in sorted((step for step in self.steps if step < before), reverse=True):
            try:
                restored = self._read(step, template)
            except UserError:  # It is of another run.
                raise
            except Exception as error:  # Orbax raises many kinds of exceptions for damaged files.
                if is_unrelated_to_files(error):
                    raise
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                damaged.append((step, reason))
                continue
            self._warn(damaged)
            for newer, _ in damaged:
                if not self._read_only:
                    self._manager.delete(newer)
                done = "ignored" if self._read_only else "removed"
                logging.warning("checkpoint %d is %s; the older checkpoint %d is used", newer, done, step)
            return restored
        if damaged:
            self._check_shapes(damaged[0][0], template)  # First: of another net, they are not damaged.
            self._warn(damaged)
            raise UserError(
                f"all checkpoints in {self._folder} are damaged; remove that folder to train from the beginning."
            )
        return None

    def restore_step(self, step: int, template: TrainState) -> TrainState:
        """Return the state that was saved for ``step``, placed as ``template``.

        Raises:
          UserError: that checkpoint is damaged, of another run or of a net of other shapes.
        """
        try:
            return self._read(step, template)[0]
        except UserError:  # It is of another run.
            raise
        except Exception as error:  # Orbax raises many kinds of exceptions for damaged files.
            if is_unrelated_to_files(error):
                raise
            self._check_shapes(step, template)
            raise UserError(f"checkpoint {step} in {self._folder} is damaged; use another step.") from error

    def _read(self, step: int, template: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Return state and progress that were saved for ``step``; raise an exception if the files are damaged."""
        # First, because the state of another run's net may not fit ``template`` at all.
        progress = ocp.args.Composite(progress=ocp.args.JsonRestore())
        content = self._manager.restore(step, args=progress)["progress"]
        if self._run is not None and content.get("run") is not None:
            differing = identity.differences(content["run"], self._run)
            if differing:
                raise UserError(
                    f"checkpoint {step} in {self._folder} is of another run, differing in {', '.join(differing)}; "
                    "put back the checkpoints of this run, or remove this one."
                )
        saved = ocp.args.Composite(state=ocp.args.StandardRestore(template))
        state = self._manager.restore(step, args=saved)["state"]
        if content["sha256"] != digest(state, content["progress"]):
            raise ValueError("its content differs from the saved content")
        return state, content["progress"]

    def _warn(self, damaged: list[tuple[int, str]]) -> None:
        """Log the reason why each checkpoint of ``damaged``, by its step, is damaged."""
        for step, reason in damaged:
            logging.warning("checkpoint %d in %s is damaged: %s", step, self._folder, reason)

    def _check_shapes(self, step: int, template: TrainState) -> None:
        """Raise a UserError if the arrays of checkpoint ``step`` have other shapes than ``template``, not damage."""
        try:
            shapes = shapes_by_path(self._manager.item_metadata(step)["state"])
        except Exception:  # It cannot even be read, so it is damaged.
            return
        for path, shape in shapes_by_path(template).items():
            if shapes.get(path, shape) != shape:
                raise UserError(
                    f"checkpoint {step} in {self._folder} is of another net: {path} has shape {shapes[path]} there, "
                    f"{shape} here; use the config and the classes that it was trained with."
                )


def shapes_by_path(tree: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays in ``tree`` by their paths, as in "params/head/kernel"."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape) for path, leaf in leaves}


def is_unrelated_to_files(error: Exception) -> bool:
    """Return whether ``error``, raised by reading, comes from devices, as full memory does, or from a lost process."""
    return isinstance(error, jax.errors.JaxRuntimeError) or is_lost_process(error)


def digest(state: Any, progress: dict[str, Any]) -> str:
    """Return the SHA-256 of every number of the tree ``state``, with its path, and of ``progress``."""
    sha = hashlib.sha256(json.dumps(progress, sort_keys=True).encode())
    for path, leaf in jax.tree.leaves_with_path(state):
        array = np.asarray(leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()
