"""Reports of a run: its metrics, read from the devices, recorded and shown."""

import math
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from resnet_jax.training import optimizer
from resnet_jax.training.progress import Pace, ProgressLine
from resnet_jax.training.record import RunRecord
from resnet_jax.training.step import TrainState


class Reporter:
    """Records and shows the running training error and the evaluations of a run.

    Attributes:
      recent: "loss" and "error" of each step since the running training error was last recorded.
      ends_run: whether the last record of the running training loss ends the run by config.stop_below_loss.
      pace: pace of the training steps.
      line: the progress line.
    """

    def __init__(self, config: ConfigDict, rate: optax.Schedule, train_examples: int, record: RunRecord) -> None:
        self._config, self._rate, self._train_examples, self._record = config, rate, train_examples, record

    def begin(self, state: TrainState, recent: list[dict[str, float]]) -> None:
        """Start to report after ``state``; ``recent`` is the run's attribute of that name up to there."""
        step = int(state.step)
        self.recent, self.ends_run = recent, False
        self._lr_scale = float(optimizer.plateau_scale(state.opt_state))
        self.pace = Pace(step)
        self.line = ProgressLine(step, self._config.steps, self._config.batch_size)

    def steps(self, first: int, metrics: dict[str, jax.Array]) -> int | None:
        """Report the dispatch that began after step ``first``; wait until the devices have done it.

        Args:
          first: number of steps before it.
          metrics: "loss", "error" and "lr_scale" of each step, ``[steps]``.

        Returns:
          The step at which the run has diverged and must stop; None if it continues.
        """
        names = ("loss", "error", "lr_scale")
        losses, errors, lr_scales = (jax.device_get(metrics[name]).tolist() for name in names)
        finite = next((index for index, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
        diverged = finite < len(losses) and self._config.stop_at_divergence
        count = finite + 1 if diverged else len(losses)
        self.recent += [{"loss": losses[index], "error": errors[index]} for index in range(count)]
        step, self._lr_scale = first + count, lr_scales[count - 1]
        self.line.update(step, self.recent[-1], self.pace)
        if step % self._config.log_every == 0 or step == self._config.steps or diverged:
            self._running_error(step)
        return step if diverged else None

    def _running_error(self, step: int) -> None:
        """Record the means over the steps since the last such record."""
        means = {name: float(np.mean([figures[name] for figures in self.recent])) for name in ("loss", "error")}
        self.recent = []
        self.ends_run = self._config.stop_below_loss is not None and means["loss"] < self._config.stop_below_loss
        images_per_second = self.pace.steps_per_second(step) * self._config.batch_size
        self.write(step, "train", means, images_per_second, self.pace.data_wait(step))
        self.line.log(step, means, self.pace)

    def write(
        self,
        step: int,
        split: str,
        figures: dict[str, Any],
        images_per_second: float,
        data_wait: float = math.nan,
    ) -> None:
        """Record the "loss" and "error" in ``figures`` of ``split`` after ``step`` steps."""
        self._record.write(
            step,
            split,
            epoch=round(step * self._config.batch_size / self._train_examples, 4),
            loss=figures["loss"],
            error=figures["error"],
            lr=float(f"{float(self._rate(step - 1)) * self._lr_scale:.6g}"),  # Rounded, because it is a float32.
            images_per_second=round(images_per_second, 1),
            data_wait=round(data_wait, 4),
        )
