"""Reading run directories, and which runs are the same net but for the seed."""

import collections
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from resnet_jax import models
from resnet_jax.config import RECIPE_FIELDS, TITLE_FIELDS, flatten
from resnet_jax.errors import UserError
from resnet_jax.rundir import cut_off, read_config, read_json, read_metrics


class Run(NamedTuple):
    """What a run directory says.

    Attributes:
      name: of the directory, with the sweep's in front where two runs would share a name.
      folder: the run directory.
      config: the resolved config with dotted names.
      command: the words that began the run.
      metrics: the lines of ``metrics.jsonl``.
      summary: None of a run that has not ended.
      environments: one for each start.
    """

    name: str
    folder: pathlib.Path
    config: dict[str, Any]
    command: list[str]
    metrics: list[dict[str, Any]]
    summary: dict[str, Any] | None
    environments: list[dict[str, Any]]

    @property
    def model(self) -> dict[str, Any]:
        """The fields of config.model."""
        return {name.removeprefix("model."): self.config[name] for name in self.config if name.startswith("model.")}

    @property
    def finished(self) -> bool:
        """Whether all steps are made."""
        return self.summary is not None and self.summary["status"] == "finished"

    @property
    def step(self) -> int:
        """The last step of which something is recorded, 0 if there is none."""
        return self.metrics[-1]["step"] if self.metrics else 0

    def curve(self, split: str, axis: str = "step") -> tuple[np.ndarray, np.ndarray]:
        """Return where on ``axis`` the error on ``split`` is recorded and the errors as fractions, each ``[records]``.

        Split "train" is the running error on the mini-batches of training, "train_clean" the error on the whole
        training set without augmentation. The axis is "step", "epoch" or "seconds".
        """
        lines = [line for line in self.metrics if line["split"] == split]
        return np.array([line[axis] for line in lines]), np.array([line["error"] for line in lines])

    def final(self, split: str) -> float:
        """Return the error on ``split`` after the last step, of a finished run."""
        assert self.summary is not None
        return self.summary["final"][split]["error"]

    def best(self, split: str) -> float:
        """Return the least error on ``split``, of a finished run."""
        assert self.summary is not None
        return self.summary["best"][split]["error"]


class Net(NamedTuple):
    """Runs that differ in the seed alone.

    Attributes:
      family: nets that differ in depth alone share a family, as in "plain" or "residual, shortcut B".
      depth: weighted layers.
      runs: one for each seed.
    """

    family: str
    depth: int
    runs: list[Run]

    @property
    def label(self) -> str:
        """Family and depth, as in "plain-56"."""
        _, comma, rest = self.family.partition(",")
        return f"{models.title(self.runs[0].model)}{comma}{rest}"

    @property
    def finished(self) -> list[Run]:
        """The runs that have made all steps."""
        return [run for run in self.runs if run.finished]


def read_run(folder: pathlib.Path) -> Run:
    """Return what run directory ``folder`` says.

    Raises:
      UserError: it holds no run, or one of its files is damaged.
    """
    recorded = read_config(folder)
    if recorded is None:
        raise UserError(f"{folder} holds no run, for there is no {folder / 'config.json'}; name a run directory.")
    return Run(
        folder.name,
        folder,
        flatten(recorded.config.to_dict()),
        recorded.command,
        read_metrics(folder / "metrics.jsonl"),
        read_json(folder / "summary.json"),
        read_json(folder / "environment.json") or [],
    )


def read_runs(folders: list[pathlib.Path]) -> tuple[list[Run], list[str]]:
    """Return all runs in ``folders`` and below, and a sentence on each that cannot be read or is cut off.

    Raises:
      UserError: there is no such folder, or none holds a run.
    """
    found: dict[pathlib.Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder; name a run directory or a folder of them.")
        found |= dict.fromkeys(sorted(path.parent for path in folder.rglob("config.json")))
    if not found:
        raise UserError(f"there is no run in {', '.join(map(str, folders))}; name a run directory or a folder of them.")
    runs, problems = [], []
    shared = {name for name, count in collections.Counter(folder.name for folder in found).items() if count > 1}
    for folder in found:
        try:
            run = read_run(folder)
        except UserError as error:
            problems.append(f"{folder} is left out: {error}")
            continue
        if cut_off(folder / "metrics.jsonl"):
            problems.append(f"{folder / 'metrics.jsonl'} ends in a line that was cut off, which is left out.")
        runs.append(run._replace(name=f"{folder.parent.name}/{folder.name}") if folder.name in shared else run)
    if not runs:
        raise UserError(f"none of the {len(found)} runs can be read; the first: {problems[0]}")
    return runs, problems


def family_fields(run: Run) -> dict[str, Any]:
    """Return what must be equal of runs of one family: all fields that matter but for the depth."""
    read = {f"model.{name}" for name in models.fields_read(run.model)} - {"model.depth"}
    return {name: run.config[name] for name in RECIPE_FIELDS if name in read or not name.startswith("model.")}


def recipe(run: Run) -> dict[str, Any]:
    """Return how ``run`` was trained, whatever the net."""
    return {name: value for name, value in family_fields(run).items() if not name.startswith("model.")}


def differing_fields(fields: list[dict[str, Any]]) -> list[str]:
    """Return the names under which ``fields`` do not all have the same value."""
    names = dict.fromkeys(name for each in fields for name in each)
    return [name for name in names if len({repr(each.get(name)) for each in fields}) > 1]


def group_runs(runs: list[Run]) -> list[Net]:
    """Return ``runs`` as nets, by family and depth; a family is named by what sets it apart from the others."""
    fields = [family_fields(run) for run in runs]
    # A field that only some of the nets have, as the shortcut, sets apart only those.
    values = {name: {repr(each[name]) for each in fields if name in each} for name in RECIPE_FIELDS}
    named = [name for name in RECIPE_FIELDS if len(values[name]) > 1 and name not in TITLE_FIELDS]
    nets: dict[tuple[str, int], list[Run]] = {}
    for run, each in zip(runs, fields, strict=True):
        rest = [f"{name.split('.')[-1]} {each[name]}" for name in named if name in each]
        nets.setdefault((", ".join([models.series_title(run.model), *rest]), run.config["model.depth"]), []).append(run)
    return [Net(family, depth, nets[family, depth]) for family, depth in sorted(nets)]


def families(nets: Sequence[Net]) -> dict[str, list[Net]]:
    """Return ``nets`` by family, of rising depth."""
    found: dict[str, list[Net]] = {}
    for net in sorted(nets, key=lambda net: (net.family, net.depth)):
        found.setdefault(net.family, []).append(net)
    return found
