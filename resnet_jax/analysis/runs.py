"""Reading run directories."""

import pathlib
from typing import Any, NamedTuple

import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.rundir import read_json, read_metrics


class Run(NamedTuple):
    """What a run directory says.

    Attributes:
      folder: the run directory.
      config: the resolved config, nested as it was.
      metrics: the lines of ``metrics.jsonl``.
      summary: None of a run that has not ended.
    """

    folder: pathlib.Path
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    summary: dict[str, Any] | None

    @property
    def kind(self) -> str:
        """Either "plain" or "residual"."""
        return "residual" if self.config["model"]["residual"] else "plain"

    @property
    def depth(self) -> int:
        """Weighted layers."""
        return self.config["model"]["depth"]

    @property
    def net(self) -> str:
        """Kind and depth, as in "plain-56"."""
        return f"{self.kind}-{self.depth}"

    def curve(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the steps at which the error on ``split`` is recorded and the errors as fractions, each ``[records]``.

        Split "train" is the running error on the mini-batches of training, "train_clean" the error on the whole
        training set without augmentation.
        """
        lines = [line for line in self.metrics if line["split"] == split]
        return np.array([line["step"] for line in lines]), np.array([line["error"] for line in lines])


def read_run(folder: pathlib.Path) -> Run:
    """Return what run directory ``folder`` says.

    Raises:
      UserError: it holds no run, or one of its files is damaged.
    """
    config = read_json(folder / "config.json")
    if config is None:
        raise UserError(f"{folder} holds no run, for there is no {folder / 'config.json'}; name a run directory.")
    return Run(folder, config["config"], read_metrics(folder / "metrics.jsonl"), read_json(folder / "summary.json"))
