"""Read run directories, and group their runs into replicates (same net, other seed) and series (other depth)."""

import collections
import itertools
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from resnet_jax import models
from resnet_jax.config import brief, default, flatten
from resnet_jax.errors import UserError
from resnet_jax.fields import INTERVENTION_FIELDS, RECIPE_FIELDS, TITLE_FIELDS
from resnet_jax.registry import Registration
from resnet_jax.rundir import MADE_BY_SURGERY, cut_off, read_config, read_environments, read_metrics, read_summary
from resnet_jax.safe_files import files_below


class Run(NamedTuple):
    """The content of a run directory.

    Attributes:
      name: of the directory, prefixed with the sweep's if two runs would share a name.
      folder: the run directory.
      config: the resolved config, with dotted names.
      command: that started the run, as words.
      metrics: the lines of ``metrics.jsonl``.
      summary: None before the run ends.
      environments: one per start.
      registered: what the run uses of the user's own nets and blocks.
    """

    name: str
    folder: pathlib.Path
    config: dict[str, Any]
    command: list[str]
    metrics: list[dict[str, Any]]
    summary: dict[str, Any] | None
    environments: list[dict[str, Any]]
    registered: Sequence[Registration] = ()

    @property
    def model(self) -> dict[str, Any]:
        """The fields of config.model."""
        return {name.removeprefix("model."): self.config[name] for name in self.config if name.startswith("model.")}

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.summary is not None and self.summary["status"] == "finished"

    @property
    def complete(self) -> bool:
        """Whether all steps were trained; false of a finished run that config.stop_below_loss has ended."""
        return self.finished and self.summary is not None and self.summary["steps"] == self.config["steps"]

    @property
    def diverged(self) -> bool:
        """Whether a non-finite loss has ended the run."""
        return self.summary is not None and self.summary["status"] == "diverged"

    @property
    def devices(self) -> tuple[str, ...]:
        """The kinds of device on which it was trained, sorted; none if they are not recorded."""
        return tuple(sorted({start["device_kind"] for start in self.environments if start.get("device_kind")}))

    @property
    def step(self) -> int:
        """The last recorded step, or 0."""
        return self.metrics[-1]["step"] if self.metrics else 0

    def curve(self, split: str, axis: str = "step") -> tuple[np.ndarray, np.ndarray]:
        """Return the recorded values of ``axis`` and the errors on ``split`` as fractions, each ``[records]``.

        Split "train" is the running error on training mini-batches, "train_clean" the error on the whole training set
        without augmentation. The axis is "step", "epoch" or "seconds".
        """
        lines = [line for line in self.metrics if line["split"] == split]
        return np.array([line[axis] for line in lines]), np.array([line["error"] for line in lines])

    def losses(self) -> tuple[np.ndarray, np.ndarray]:
        """Return steps and losses of training mini-batches, each the mean since the record before, ``[records]``."""
        lines = [line for line in self.metrics if line["split"] == "train"]
        return np.array([line["step"] for line in lines]), np.array([line["loss"] for line in lines], float)

    def final(self, split: str) -> float:
        """Return the error on ``split`` after the last step, of a finished run."""
        assert self.summary is not None
        return self.summary["final"][split]["error"]

    def best(self, split: str) -> float:
        """Return the lowest error on ``split``, of a finished run."""
        assert self.summary is not None
        return self.summary["best"][split]["error"]


class Replicates(NamedTuple):
    """Runs that differ only in the seed.

    Attributes:
      series: nets that differ only in depth share a series, such as "plain" or "residual, shortcut B".
      depth: weighted layers.
      runs: one per seed.
    """

    series: str
    depth: int
    runs: list[Run]

    @property
    def label(self) -> str:
        """Title of the net and what else names its series, such as "plain-56" or "residual-56, shortcut B"."""
        _, comma, rest = self.series.partition(",")
        return f"{models.title(self.runs[0].model)}{comma}{rest}"

    @property
    def finished(self) -> list[Run]:
        """The finished runs."""
        return [run for run in self.runs if run.finished]

    @property
    def complete(self) -> list[Run]:
        """The runs whose steps were all trained, so that their final errors can be compared."""
        return [run for run in self.runs if run.complete]


def read_run(folder: pathlib.Path) -> Run:
    """Return the run in run directory ``folder``.

    Raises:
      UserError: it holds no run, or one of its files is damaged.
    """
    recorded = read_config(folder)
    if recorded is None:
        raise UserError(f"{folder} is not a run directory: it has no config.json.")
    run = Run(
        folder.name,
        folder,
        flatten(recorded.config.to_dict()),
        recorded.command,
        sharing_texts(read_metrics(folder / "metrics.jsonl")),
        read_summary(folder),
        read_environments(folder),
        recorded.registered,
    )
    check_figures(run)
    return run


def check_figures(run: Run) -> None:
    """Raise a UserError unless ``run`` has the figures that are drawn, and none of steps that it does not have."""
    for number, line in enumerate(run.metrics, 1):
        for name in ("epoch", "lr", "loss"):
            if line.get(name) is None and not (name == "loss" and name in line):  # Null in a diverged run.
                raise UserError(f"{run.folder / 'metrics.jsonl'} is damaged in line {number}: it has no {name}.")
    if run.summary is None:
        return
    validation = ["validation"] if run.config["data.validation_examples"] else []
    for split in ("train_clean", "test", *validation):
        if run.finished and not (split in run.summary["final"] and split in run.summary["best"]):
            raise UserError(f"{run.folder / 'summary.json'} is damaged: it has no figures of split {split}.")
    if max(run.step, run.summary["steps"]) > run.config["steps"]:
        raise UserError(f"{run.folder} is damaged: it has records beyond its last step, {run.config['steps']:,}.")


def sharing_texts(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return ``lines`` of metrics with one copy of each name and split: half of the memory of hundreds of runs."""
    for index, line in enumerate(lines):  # In place, so that a million lines are not there twice.
        shared = {sys.intern(name): sys.intern(each) if isinstance(each, str) else each for name, each in line.items()}
        lines[index] = shared
    return lines


def run_directories(folders: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """Return the run directories in and below ``folders``.

    Raises:
      UserError: a folder does not exist, or there are none.
    """
    found: dict[pathlib.Path, None] = {}
    for folder in folders:
        there = sorted({file.parent for file in files_below(folder) if file.name == "config.json"})
        if not there and not folder.is_dir():
            raise UserError(f"{folder} is not a folder; give a run directory or a folder of run directories.")
        found |= dict.fromkeys(there)
    if not found:
        raise UserError(
            f"no runs found in {', '.join(map(str, folders))}; give a run directory or a folder of run directories."
        )
    return list(found)


def read_runs(folders: list[pathlib.Path]) -> tuple[list[Run], list[str]]:
    """Return all runs in and below ``folders``, and a sentence on each that is unreadable, truncated or not trained.

    A further sentence says where runs use different definitions of a net or block of the user's own.

    Raises:
      UserError: a folder does not exist, or there are no readable runs.
    """
    found = run_directories(folders)
    runs, problems = [], []
    shared = {name for name, count in collections.Counter(folder.name for folder in found).items() if count > 1}
    for folder in found:
        try:
            run = read_run(folder)
        except UserError as error:
            problems.append(f"{folder} is skipped: {error}")
            continue
        if run.summary is not None and run.summary["status"] == MADE_BY_SURGERY:
            problems.append(f"{folder} is left out: its net was made by surgery, not trained.")
            continue
        if cut_off(folder / "metrics.jsonl"):
            problems.append(f"{folder / 'metrics.jsonl'} ends with an incomplete line, which is ignored.")
        runs.append(run._replace(name=f"{folder.parent.name}/{folder.name}") if folder.name in shared else run)
    if not runs:
        raise UserError(f"none of the {len(found)} runs can be read; the first problem: {problems[0]}")
    return runs, problems + other_definitions(runs)


def of_one_device(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """Return the ``runs`` on the kind of device of most, and a sentence on the others if there are any.

    Kinds of device round differently, and a run that went on on another kind is of neither.
    """
    counts = collections.Counter(run.devices for run in runs if run.devices)
    if len(counts) < 2:
        return runs, []
    [(usual, _)] = counts.most_common(1)
    others = [run for run in runs if run.devices and run.devices != usual]
    kinds = sorted({" and ".join(run.devices) for run in others})
    names = (
        f"{others[0].name} and {len(others) - 1} more" if len(others) > 2 else " and ".join(run.name for run in others)
    )
    return [run for run in runs if run not in others], [
        f"{names} trained on {' or '.join(kinds)} instead of {' and '.join(usual)}, and "
        f"{'is' if len(others) == 1 else 'are'} left out; --mixed_devices judges runs on all kinds of device together."
    ]


def other_definitions(runs: list[Run]) -> list[str]:
    """Return a sentence on each net or block of the user's own that ``runs`` have from files of several digests."""
    found: dict[tuple[str, str], dict[str | None, Registration]] = {}
    for each in itertools.chain.from_iterable(run.registered for run in runs):
        found.setdefault((each.field, each.name), {})[each.sha256] = each
    return [
        f"{' and '.join(map(str, definitions.values()))} are compared as one, though their files differ."
        for definitions in found.values()
        if len(definitions) > 1
    ]


def series_fields(run: Run) -> dict[str, Any]:
    """Return the fields that runs of one series have in common: all that change the result, except seed and depth."""
    read = {f"model.{name}" for name in models.fields_read(run.model)} - {"model.depth"}
    return {name: run.config[name] for name in RECIPE_FIELDS if name in read or not name.startswith("model.")}


def recipe(run: Run) -> dict[str, Any]:
    """Return the fields of ``run`` that describe how it was trained: all but fields of the net and interventions."""
    fields = series_fields(run).items()
    return {name: value for name, value in fields if not name.startswith("model.") and name not in INTERVENTION_FIELDS}


def differing_fields(fields: list[dict[str, Any]]) -> list[str]:
    """Return the names under which ``fields`` do not all have the same value."""
    names = dict.fromkeys(name for each in fields for name in each)
    return [name for name in names if len({repr(each.get(name)) for each in fields}) > 1]


def group_seeds(runs: list[Run]) -> list[Replicates]:
    """Group ``runs`` that differ only in the seed; a series is named by the fields in which it differs from others.

    Of interventions only those that a run has are named.
    """
    fields = [series_fields(run) for run in runs]
    # A field that only some nets read, such as the shortcut, distinguishes only those.
    values = {name: {repr(each[name]) for each in fields if name in each} for name in RECIPE_FIELDS}
    named = [name for name in RECIPE_FIELDS if len(values[name]) > 1 and name not in TITLE_FIELDS]
    defaults = flatten(default().to_dict())

    def names_it(name: str, each: dict[str, Any]) -> bool:
        return name in each and not (name in INTERVENTION_FIELDS and each[name] == defaults[name])

    nets: dict[tuple[str, int], list[Run]] = {}
    for run, each in zip(runs, fields, strict=True):
        rest = [brief(name, each[name], separator=" ") for name in named if names_it(name, each)]
        nets.setdefault((", ".join([models.series_title(run.model), *rest]), run.config["model.depth"]), []).append(run)
    return [Replicates(series, depth, nets[series, depth]) for series, depth in sorted(nets)]


def nets_of(series: str) -> str:
    """Return the name of the nets of ``series``, as "residual nets, shortcut B"."""
    kind, comma, rest = series.partition(",")
    return f"{kind} nets{comma}{rest}"


def group_depths(nets: Sequence[Replicates]) -> dict[str, list[Replicates]]:
    """Return the series of ``nets`` by name, in the order of ``nets``, each in order of depth."""
    found: dict[str, list[Replicates]] = {}
    for net in sorted(nets, key=lambda net: net.depth):
        found.setdefault(net.series, []).append(net)
    return {series: found[series] for series in dict.fromkeys(net.series for net in nets)}
