"""The runs of a sweep: their names, configs, commands and cost."""

import ast
import contextlib
import functools
import hashlib
import json
import pathlib
import re
import signal
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from resnet_jax import data, models
from resnet_jax.config import brief, check, check_value, flatten, shown, unknown_field
from resnet_jax.errors import UserError
from resnet_jax.fields import FIELDS, PATH_FIELDS, TITLE_FIELDS, TUNABLE_FIELDS
from resnet_jax.paths import local_path
from resnet_jax.rundir import IN_USE, cut_off, read_summary
from resnet_jax.safe_files import open_own, within
from resnet_jax.sweeps.grid import Overrides, tuned_fields

# Each convolution has two more of its size in the backward pass: the gradients by its input and by its kernel.
PASSES = 3
# Bytes of a run's name: file systems take 255, and suffixes such as .log need some.
LONGEST_NAME = 200
# Reasons of a message; a sweep of hundreds of runs can have one for each.
MOST_REASONS = 20
# Exit statuses of a run that need no sentence in its log: an error that is already there, and a stop by a signal of
# Slurm or of a sweep, which may also come before the run listens for it.
EXPLAINED = (2, 75, -signal.SIGTERM, -signal.SIGUSR2)


class PlannedRun(NamedTuple):
    """A run of a sweep.

    Attributes:
      name: the net and what else the sweep sets, such as "plain-56-seed0".
      overrides: of the sweep.
      config: resolved.
      workdir: the run directory.
      command: that trains it, as words.
    """

    name: str
    overrides: Overrides
    config: ConfigDict
    workdir: pathlib.Path
    command: list[str]


class Cost(NamedTuple):
    """The cost of a run, estimated only from shapes.

    Attributes:
      parameters: number of parameters of the net.
      multiply_adds: number in all training steps, forward and backward, without evaluation.
    """

    parameters: int
    multiply_adds: int


class Problems:
    """Why runs of a sweep cannot be trained: each reason once, with the names of its runs.

    Attributes:
      where: file and line of ``get_sweep``.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self._names: dict[str, list[str]] = {}

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Collect the UserError that is raised about the run called ``name``."""
        try:
            yield
        except UserError as error:
            self._names.setdefault(str(error), []).append(name)

    def report(self, runs: int) -> None:
        """Raise a UserError with all problems of a sweep of ``runs`` runs, if there are any."""
        if not self._names:
            return
        wrong = len({name for names in self._names.values() for name in names})
        reasons = [
            f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {reason}"
            for reason, names in self._names.items()
        ]
        more = f" And {len(reasons) - MOST_REASONS} more reasons." if len(reasons) > MOST_REASONS else ""
        raise UserError(
            f"{self.where}: {wrong} of {runs} runs cannot be trained. {' '.join(reasons[:MOST_REASONS])}{more}"
        )


def plan(
    base: ConfigDict, sweep: list[Overrides], folder: pathlib.Path, command: list[str], problems: Problems
) -> list[PlannedRun]:
    """Return the runs of ``sweep``, without those whose config is invalid.

    Args:
      base: the config that the overrides change.
      sweep: one override per run.
      folder: holds the run directories.
      command: that trains ``base``; overrides and workdir are appended.
      problems: collects why configs are invalid, and which runs have the same name.

    Raises:
      UserError: the runs cannot be tuned.
    """
    runs: dict[str, PlannedRun] = {}
    for given in sweep:
        overrides = {field: plain(value) for field, value in given.items()}
        with problems.of(", ".join(f"{field}={shown(value)}" for field, value in overrides.items()) or "the config"):
            config = overridden(base, overrides)
            check(config, devices=1)  # The number of devices is known only where the run is trained.
            models.build(config.model, num_classes=1)  # Refuses a depth that the family does not have.
            name = name_of(config, overrides)
            if name in runs:
                raise UserError(f"two runs are named {name}; remove one.")
            words = [f"--config.{field}={value}" for field, value in overrides.items()]
            runs[name] = PlannedRun(
                name, overrides, config, folder / name, [*command, *words, f"--workdir={folder / name}"]
            )
    check_tuned(problems.where, tuned_fields(sweep), [run.config for run in runs.values()])
    return list(runs.values())


def plain(value: Any) -> Any:
    """Return ``value`` without NumPy's types, whose text no command line takes."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


def overridden(base: ConfigDict, overrides: Overrides) -> ConfigDict:
    """Return ``base`` with ``overrides``.

    Raises:
      UserError: one is not a field, or has a value that its field cannot have.
    """
    values = {field: override_value(field, value) for field, value in overrides.items()}
    for field, value in values.items():
        if field not in FIELDS:
            raise UserError(unknown_field(field))
        check_value(field, value, FIELDS[field])
    config = base.copy_and_resolve_references()
    config.lock()
    try:
        config.update_from_flattened_dict(values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # The base itself is not a whole config.
        check(base, devices=1)
        reason = " ".join(str(error).split())
        raise UserError(f"these overrides do not fit the config ({reason}).") from error
    return config


def check_tuned(where: str, fields: list[str], configs: list[ConfigDict]) -> None:
    """Raise a UserError unless a net may have its own best value of ``fields``, chosen by a validation split.

    ``where`` is file and line of ``get_sweep``.
    """
    if len(fields) > 1:
        raise UserError(
            f"{where}: get_sweep() tunes {' and '.join(fields)}; only one field may be tuned, make the others axes."
        )
    for field in fields:
        if field not in TUNABLE_FIELDS:
            raise UserError(
                f"{where}: get_sweep() tunes {field}, but only numbers of the optimizer can be; make it an axis."
            )
        if any(config.data.validation_examples == 0 for config in configs):
            raise UserError(
                f"{where}: get_sweep() tunes {field}, which is chosen by validation error, but "
                "config.data.validation_examples=0; hold examples out, e.g. --config.data.validation_examples=5000."
            )


def name_of(config: ConfigDict, overrides: Overrides) -> str:
    """Return the title of the net and what else ``overrides`` set, such as "plain-56-seed0", at most 200 bytes long."""
    others = {field: value for field, value in overrides.items() if field not in TITLE_FIELDS}
    rest = [brief(field, value, separator="") for field, value in others.items()]
    name = re.sub(r"[^\w.+-]+", "_", "-".join([models.title(config.model), *rest]))
    if len(name.encode()) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name.encode()[: LONGEST_NAME - 9].decode(errors="ignore") + f"-{digest}"


def override_value(field: str, value: Any) -> Any:
    """Return ``value`` as the command line takes it: a tuple if ``field`` has several numbers, a path without ~."""
    if field in PATH_FIELDS and isinstance(value, str):
        return local_path(value, f"config.{field}")
    is_one = field in FIELDS and FIELDS[field].type is tuple and isinstance(value, int | float)
    return (value,) if is_one else value


def selected_runs(runs: list[PlannedRun], conditions: str) -> list[PlannedRun]:
    """Return the ``runs`` that meet all ``conditions``, such as "model.depth=56,model.residual=True".

    Raises:
      UserError: a condition has an unknown field, or no run meets them.
    """
    values = [flatten(run.config.to_dict()) for run in runs]
    wanted = []
    for condition in re.split(r",(?![^(\[]*[)\]])", conditions):  # At commas that are not in brackets.
        field, _, text = condition.strip().removeprefix("config.").partition("=")
        if field not in values[0]:
            raise UserError(
                f"--only={conditions}: unknown field in {condition!r}; write FIELD=VALUE, e.g. model.depth=56."
            )
        value = override_value(field, value_of(text))
        wanted.append((field, list(value) if isinstance(value, tuple) else value))
    chosen = [
        run for run, have in zip(runs, values, strict=True) if all(have[field] == value for field, value in wanted)
    ]
    if not chosen:
        raise UserError(f"--only={conditions} matches none of the {len(runs)} runs; --dry_run lists them.")
    return chosen


def value_of(text: str) -> Any:
    """Return ``text`` as a Python literal, or unchanged if it is not one."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def shard(runs: list[PlannedRun], part: str) -> list[PlannedRun]:
    """Return shard ``part`` of ``runs``, such as "2/8" for the second of eight; shards differ in size by at most one.

    Raises:
      UserError: ``part`` is not of that form.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", part)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(f"--shard={part} must be K/N with K from 1 to N, e.g. 2/8 for the second of eight shards.")
    return runs[int(match[1]) - 1 :: int(match[2])]


def cost(config: ConfigDict) -> Cost:
    """Return the cost of a run of ``config``.

    Raises:
      UserError: the net or the data set does not exist.
    """
    image_shape, num_classes = shape_of(config.data.to_json())
    parameters, multiply_adds = net_cost(config.model.to_json(), image_shape, num_classes)
    return Cost(parameters, PASSES * multiply_adds * config.batch_size * config.steps)


@functools.lru_cache
def shape_of(data_config: str) -> tuple[tuple[int, ...], int]:
    """Return the image shape and the number of classes of ``config.data`` as JSON; the data set is loaded once."""
    return data.shape(ConfigDict(json.loads(data_config)))


@functools.lru_cache
def net_cost(model: str, image_shape: tuple[int, ...], num_classes: int) -> tuple[int, int]:
    """Return parameters and multiply-adds of one forward pass; cached, for runs that differ in the seed."""
    net = models.build(ConfigDict(json.loads(model)), num_classes)
    return models.totals(models.describe(net, image_shape))


def log_of(workdir: pathlib.Path) -> pathlib.Path:
    """Return the log file of the run in ``workdir``, next to that directory."""
    return workdir.with_name(workdir.name + ".log")


def state(workdir: pathlib.Path) -> str:
    """Return the state of the run in ``workdir`` according to its run directory and its log."""
    summary = read_summary(workdir)
    if summary and summary["status"] == "finished":
        return "finished"
    if failure(workdir) and not (summary and summary["status"] == "diverged"):
        return "failed"
    if summary:
        return f"{summary['status']} at step {summary['steps']}"
    return "unfinished" if (workdir / "config.json").exists() else "not started"


def failure(workdir: pathlib.Path) -> str | None:
    """Return the message with which the last process of the run failed, None if its log does not end with one.

    A second process that was refused because the run is in use is not a failure of the run.
    """
    error = last_error(workdir)
    return None if is_in_use(error) else error


def last_error(workdir: pathlib.Path) -> str | None:
    """Return the error with which the log of the run in ``workdir`` ends, None if it does not end with one."""
    log = log_of(workdir)
    lines = within(log).read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    return lines[-1].removeprefix("error: ") if lines and lines[-1].startswith("error: ") else None


def is_in_use(error: str | None) -> bool:
    """Return whether ``error`` is of a process that was refused because another one trains the run."""
    return error is not None and error.startswith("--workdir=") and f" {IN_USE} " in error


def record_failure(workdir: pathlib.Path, sentence: str) -> None:
    """End the log of the run in ``workdir`` with ``sentence``, the reason why it failed."""
    line_break = "\n" * cut_off(log_of(workdir))  # What is killed may leave half a line.
    with open_own(log_of(workdir), "a") as log:
        log.write(f"{line_break}error: {sentence}\n")
