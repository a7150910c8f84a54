"""Checkpoints of a run, by Orbax, each with a digest of all it holds."""

import copy
import hashlib
import json
import math
import pathlib
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from resnet_jax.errors import UserError
from resnet_jax.rundir import writing
from resnet_jax.training.step import TrainState


class Checkpoints:
    """The checkpoints of one run, the newest two kept; saving goes on in the background while training does."""

    def __init__(self, folder: pathlib.Path, read_only: bool = False) -> None:
        """Open ``folder``, and make it if it is missing; every process of a run does.

        With ``read_only`` nothing in it is changed, so that another process may be writing.

        Raises:
          UserError: the folder cannot be written.
        """
        self._folder, self._read_only = folder.absolute(), read_only
        if read_only:
            options = ocp.CheckpointManagerOptions(read_only=True)
        else:
            options = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
        with writing(self._folder):
            self._manager = ocp.CheckpointManager(self._folder, item_names=("state", "progress"), options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until the last checkpoint is whole."""
        with writing(self._folder):
            self._manager.close()  # Which waits, and tells of each part that cannot be written.

    def save(self, step: int, state: TrainState, progress: dict[str, Any]) -> None:
        """Save ``state`` after ``step`` steps and ``progress``, what else a resumed run must know, as JSON.

        Raises:
          UserError: this checkpoint, or the one before, cannot be written.
        """
        progress = copy.deepcopy(progress)  # It is written in the background, while the caller goes on to change it.
        content = {"progress": progress, "sha256": digest(state, progress)}
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(content))
        with writing(self._folder):
            self._manager.save(step, args=items, force=True)

    def restore(self, template: TrainState, before: float = math.inf) -> tuple[TrainState, dict[str, Any]] | None:
        """Return the newest whole state, placed as ``template`` is, and its progress; None if there is no checkpoint.

        It is of less than ``before`` steps. Newer ones that are damaged are removed (unless ``read_only``), which is
        said; their steps will be made again.

        Raises:
          UserError: there are checkpoints, but each is damaged.
        """
        damaged = []
        steps = [step for step in self._manager.all_steps() if step < before]
        for step in sorted(steps, reverse=True):
            try:
                restored = self._read(step, template)
            except Exception as error:  # Orbax has no one kind of exception for damaged files.
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                logging.warning("checkpoint %d in %s is damaged: %s", step, self._folder, reason)
                damaged.append(step)
                continue
            for newer in damaged:
                if not self._read_only:
                    self._manager.delete(newer)
                done = "passed over" if self._read_only else "removed"
                logging.warning("checkpoint %d is %s and the one before it, %d, used", newer, done, step)
            return restored
        if damaged:
            raise UserError(
                f"every checkpoint in {self._folder} is damaged; remove that folder to train from the beginning."
            )
        return None

    def _read(self, step: int, template: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Return what ``save`` was given for ``step``; raise an exception if it is not that."""
        items = ocp.args.Composite(state=ocp.args.StandardRestore(template), progress=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=items)
        state, content = restored["state"], restored["progress"]
        if content["sha256"] != digest(state, content["progress"]):
            raise ValueError("its content is not what was saved")
        return state, content["progress"]


def digest(state: TrainState, progress: dict[str, Any]) -> str:
    """Return the SHA-256 of every number of ``state``, with its place, and of ``progress``."""
    sha = hashlib.sha256(json.dumps(progress, sort_keys=True).encode())
    for path, leaf in jax.tree.leaves_with_path(state):
        array = np.asarray(leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()
