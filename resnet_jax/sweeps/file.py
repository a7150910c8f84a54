"""Sweep files: a config with ``get_sweep``, which returns or yields one dictionary of overrides per run."""

import itertools
import pathlib
import sys
from collections.abc import Collection, Iterable, Mapping
from types import ModuleType
from typing import NamedTuple

from resnet_jax import user_file
from resnet_jax.config import shown
from resnet_jax.errors import UserError
from resnet_jax.sweeps import claims
from resnet_jax.sweeps.grid import Overrides

# More than any machine trains; a generator may have no end.
MOST_RUNS = 10_000
# Under which ml_collections has loaded the file of --config.
CONFIG_MODULE = "config_config"


class SweepFile(NamedTuple):
    """The content of a sweep file.

    Attributes:
      where: file and line of ``get_sweep``, for messages.
      question: the docstring.
      literature: what others have found.
      sweep: overrides, one per run.
    """

    where: str
    question: str
    literature: dict[str, list[str]]
    sweep: list[Overrides]


def read(file: str) -> SweepFile:
    """Return the content of the sweep file ``file``, after a colon with the option that its functions take.

    Raises:
      UserError: it is not a sweep file, it fails, or it returns anything else than overrides.
    """
    path, _, option = file.partition(":")
    flag = f"--config={file}"
    module = module_of(path, flag)
    if not callable(getattr(module, "get_sweep", None)):
        raise UserError(f"{flag} is not a sweep: it has no get_sweep(); the sweeps are in configs/sweeps/.")
    literature = claims.check(getattr(module, "LITERATURE", {}), file)
    where = user_file.where(module, "get_sweep", flag)
    return SweepFile(where, (module.__doc__ or "").strip(), literature, runs_of(module, option, flag))


def module_of(path: str, flag: str) -> ModuleType:
    """Return the Python file ``path`` as a module, which is executed unless it is the config of this command.

    Raises:
      UserError: it fails; ``flag`` names the file there.
    """
    loaded = sys.modules.get(CONFIG_MODULE)
    if loaded is not None and loaded.__file__ == path:
        return loaded
    return user_file.load(pathlib.Path(path), "sweep", flag)


def runs_of(module: ModuleType, option: str, flag: str) -> list[Overrides]:
    """Return the overrides from ``get_sweep`` of ``module`` for ``option``; ``flag`` names the file in messages.

    Raises:
      UserError: it fails, or that is not a dictionary for each of at most ``MOST_RUNS`` runs.
    """
    with user_file.reporting_mistakes(pathlib.Path(str(module.__file__)), flag):
        returned = module.get_sweep(*[option] if option else [])
        is_list = isinstance(returned, Iterable) and not isinstance(returned, str | bytes | Mapping)
        first = itertools.islice(returned, MOST_RUNS + 1) if is_list else []
        # Copied at once, because a generator may change and yield the same dictionary.
        found = [dict(each) if isinstance(each, Mapping) else each for each in first]
    where = user_file.where(module, "get_sweep", flag)
    expected = "it must return a list, or yield, with one dictionary of overrides per run."
    if not is_list:
        raise UserError(f"{where}: get_sweep() returns {shown(returned)}; {expected}")
    if not found:
        raise UserError(f"{where}: get_sweep() returns no runs; {expected}")
    if len(found) > MOST_RUNS:
        raise UserError(f"{where}: get_sweep() returns more than {MOST_RUNS:,} runs; split the sweep.")
    for number, overrides in enumerate(found, start=1):
        if not isinstance(overrides, dict) or not all(isinstance(field, str) for field in overrides):
            raise UserError(f"{where}: run {number} of get_sweep() is {shown(overrides)}; {expected}")
    return found


def check_is_config(file: str, given: Collection[str], has_workdir: bool) -> None:
    """Raise a UserError if ``file`` is a sweep file: only one of its nets would be trained.

    It is accepted if all fields of one of its runs are ``given``, as ``experiments.sweep`` does.

    Args:
      file: value of --config.
      given: fields that the command line overrides, by dotted name.
      has_workdir: whether the command line has --workdir, which stands for the fields of a run without overrides.
    """
    path, _, option = file.partition(":")
    module = module_of(path, f"--config={file}")
    if not callable(getattr(module, "get_sweep", None)):
        return
    runs = runs_of(module, option, f"--config={file}")
    if not any(set(given).issuperset(run) and (run or has_workdir) for run in runs):
        raise UserError(
            f"--config={file} is a sweep file; train its {len(runs)} runs with python -m experiments.sweep "
            f"--config={file}, or one of them by giving all that it varies, e.g. "
            f"{' '.join(f'--config.{field}={value}' for field, value in runs[-1].items())}."
        )
