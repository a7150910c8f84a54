"""Whether the runs of a sweep can be trained: the checks that training makes, before the first run starts.

Nothing is compiled. Nets are only traced, and each net and each data set once, however many runs share it.
"""

import json
import pathlib
import sys
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from resnet_jax import data
from resnet_jax.config import flatten
from resnet_jax.errors import UserError
from resnet_jax.rundir import saved_steps
from resnet_jax.safe_files import within
from resnet_jax.sweeps.plan import Cost, PlannedRun, Problems, cost, state
from resnet_jax.training import parallel, scaling
from resnet_jax.training.program import fitted
from resnet_jax.training.record import check_workdir
from resnet_jax.training.start import source_of, source_path


class Checks:
    """The checks of the runs of one sweep.

    Attributes:
      unchecked: a sentence on each data set that is not on this machine.
    """

    def __init__(self, sweep: Sequence[PlannedRun], devices: int | None, prepares: bool) -> None:
        """Begin to check.

        Args:
          sweep: all its runs, from which others may start.
          devices: on which each run will be trained; None if they are not known.
          prepares: whether a data set that is not on this machine is downloaded and prepared now.
        """
        self.unchecked: list[str] = []
        self._planned = {run.workdir.resolve(): run for run in sweep}
        self._devices, self._prepares = devices, prepares
        self._results: dict[Hashable, Any] = {}
        self._selected: set[pathlib.Path] = set()

    def costs(self, runs: Sequence[PlannedRun], problems: Problems) -> dict[str, Cost]:
        """Return the cost of each of ``runs`` by name; collect in ``problems`` why others cannot be trained."""
        costs: dict[str, Cost] = {}
        self._selected = {run.workdir.resolve() for run in runs}
        for run in runs:
            with problems.of(run.name):
                self.check(run)
                costs[run.name] = cost(run.config)
        return costs

    def check(self, run: PlannedRun) -> None:
        """Raise a UserError if ``run`` cannot be trained."""
        config = scaling.resolved(run.config, self._devices or 1)
        if self._devices or config.per_device_batch_size is None:  # Else a run there has a batch of unknown size.
            check_workdir(within(run.workdir), config)
        if state(run.workdir) == "finished":  # Then neither data nor another run are needed any more.
            return
        facts = self._once(("data", config.data.to_json()), lambda: self._facts(config.data))
        net = net_fields(config)
        # One device is enough here: the batch has already been checked against the run's devices.
        mesh = parallel.device_mesh(jax.devices()[:1])
        program, _ = self._once(net, lambda: fitted(config, facts, mesh))
        if config.from_run is None or saved_steps(run.workdir):
            return
        planned = self._still_to_train(source_path(config))
        self._once(
            (net, source_path(config)),
            lambda: source_of(config, program.model, facts.image_shape, facts.class_names, planned),
        )

    def _still_to_train(self, workdir: pathlib.Path) -> ConfigDict | None:
        """Return the config of the run that this sweep has still to train in ``workdir``, None if there is none.

        Raises:
          UserError: the run is not among the selected ones, so that it may not have finished when another needs it.
        """
        planned = self._planned.get(workdir.resolve())
        if planned is None or state(planned.workdir) == "finished":
            return None
        if workdir.resolve() not in self._selected:
            raise UserError(f"config.from_run={workdir} is an unfinished run of this sweep; train it first.")
        return planned.config

    def _facts(self, config: ConfigDict) -> data.Facts:
        """Return the facts of the data set of ``config``, which runs must fit."""
        if self._prepares or config.name not in data.SHAPES or data.is_prepared(config):
            return data.facts(data.load(config))
        self.unchecked.append(
            f"Data set {config.name} is not on this machine yet, so whether its size suits the runs is not checked."
        )
        return data.Facts(sys.maxsize, *data.shape(config), class_names=None)

    def _once(self, key: Hashable, function: Callable[[], Any]) -> Any:
        """Return the result of ``function`` or raise its UserError; it is called once for each ``key``."""
        if key not in self._results:
            try:
                self._results[key] = function()
            except UserError as error:
                self._results[key] = error
        if isinstance(self._results[key], UserError):
            raise self._results[key]
        return self._results[key]


def net_fields(config: ConfigDict) -> str:
    """Return the fields of ``config`` on which it depends whether net, gates and data fit, as JSON."""
    fields = flatten(config.to_dict()) | {"seed": 0, "from_run": None}
    return json.dumps(
        {
            name: value
            for name, value in fields.items()
            if name == "optimizer.frozen_below" or not name.startswith("optimizer.")
        }
    )


def in_turns(runs: list[PlannedRun]) -> list[list[PlannedRun]]:
    """Return ``runs`` in groups that are trained one after the other, those that start from a run after that run.

    Raises:
      UserError: runs start from each other.
    """
    turns, waiting = [], list(runs)
    while waiting:
        missing = {run.workdir.resolve() for run in waiting}
        ready = [run for run in waiting if not starts_from(run, missing)]
        if not ready:
            raise UserError(f"{' and '.join(run.name for run in waiting)} start from each other; see config.from_run.")
        turns.append(ready)
        waiting = [run for run in waiting if run not in ready]
    return turns


def starts_from(run: PlannedRun, workdirs: set[pathlib.Path]) -> bool:
    """Return whether ``run`` has still to start from a run in one of ``workdirs``, which are resolved."""
    config = run.config
    return config.from_run is not None and not saved_steps(run.workdir) and source_path(config).resolve() in workdirs
