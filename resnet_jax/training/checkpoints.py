"""Checkpoints of a run, by Orbax."""

import copy
import pathlib
from types import TracebackType
from typing import Any, Self

import orbax.checkpoint as ocp

from resnet_jax.training.step import TrainState


class Checkpoints:
    """The checkpoints of one run, the newest two kept; saving goes on in the background while training does."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            item_names=("state", "progress"),
            options=ocp.CheckpointManagerOptions(max_to_keep=2),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until the last checkpoint is whole."""
        self._manager.wait_until_finished()
        self._manager.close()

    def save(self, step: int, state: TrainState, progress: dict[str, Any]) -> None:
        """Save ``state`` after ``step`` steps and ``progress``, what else a resumed run must know, as JSON."""
        progress = copy.deepcopy(progress)  # It is written in the background, while the caller goes on to change it.
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress))
        self._manager.save(step, args=items, force=True)

    def restore(self, template: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Return the newest state, placed as ``template`` is, and its progress; None if there is no checkpoint."""
        step = self._manager.latest_step()
        if step is None:
            return None
        items = ocp.args.Composite(state=ocp.args.StandardRestore(template), progress=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=items)
        return restored["state"], restored["progress"]
