"""Train a net from a config.

    python -m experiments.main --config=configs/cifar_plain56.py
    python -m experiments.main --config=configs/cifar_plain56.py --config.model.depth=110 --config.seed=3
    python -m experiments.main --config=configs/cifar_plain56.py --from=runs/cifar_plain20_deeper
    python -m experiments.main --config=configs/cifar_resnet20.py --describe

--config.FIELD=VALUE after --config overrides a field; --fields lists the fields with their meaning. The run is recorded
in --workdir: config, metrics.jsonl, TensorBoard events, checkpoints and summary.json. The same command resumes an
interrupted run.

On several hosts, start the same command on each. Tasks of a Slurm step and hosts of a TPU pod find each other; on other
hosts set --coordinator, --num_processes and --process_id.

Exit status: 0 the run has finished. 1 it diverged, or another of its processes is gone. 2 the command, the config, the
data or the storage needs fixing. 75 it was stopped by a signal; the same command resumes it.
"""

from resnet_jax import stopping

if __name__ == "__main__":
    stopping.listen()  # Before the other imports, which take seconds.

import itertools
import pathlib
import sys
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import command, processes
from resnet_jax import data, models
from resnet_jax.backend import set_xla_flags
from resnet_jax.config import check, spelled
from resnet_jax.errors import UserError
from resnet_jax.models.stacking import stage_of
from resnet_jax.sweeps.file import check_is_config
from resnet_jax.terminal import say, stdout
from resnet_jax.training import first_layer, summary_table, train

_CONFIG = command.define_config("Config file, one of configs/*.py.")
_WORKDIR = command.define_path("workdir", "Run directory; by default runs/ plus the names of config and overrides.")
_FROM = command.define_path(
    "from", "Run directory from whose newest checkpoint the net starts, as config.from_run; --fields explains it."
)
_DEBUG_NANS = flags.DEFINE_bool(
    "debug_nans", False, "If the run diverges, find the first layer with non-finite (inf or NaN) values."
)
_DESCRIBE = flags.DEFINE_bool("describe", False, "Print the net's architecture as a table, without training.")
flags.adopt_module_key_flags(processes)


def default_workdir(config_file: str, overrides: dict[str, Any]) -> pathlib.Path:
    """Return runs/ plus a name made of the config and its overrides, except the folder of the data."""
    named = {name: value for name, value in overrides.items() if name != "data.data_dir"}
    changes = [f"{name.split('.')[-1]}={spelled(name, value)}" for name, value in named.items()]
    return pathlib.Path("runs", "-".join([pathlib.Path(config_file).stem, *changes]).replace("/", "_"))


def start_from(config: ConfigDict, overrides: dict[str, Any]) -> dict[str, Any]:
    """Set ``config.from_run`` to --from, if that is given, and return ``overrides`` with it.

    Raises:
      UserError: ``config`` has another.
    """
    if _FROM.value is None:
        return overrides
    workdir = str(pathlib.Path(_FROM.value))
    if config.from_run not in (None, workdir):
        raise UserError(f"--from={workdir} and config.from_run={config.from_run} name two runs; give one of them.")
    config.from_run = workdir
    return overrides | {"from_run": workdir}


def blocks_by_stage(blocks: list[str]) -> str:
    """Return the number of ``blocks``, and of each stage the first and the last name."""
    stages = [[*names] for _, names in itertools.groupby(blocks, stage_of)]
    spans = [names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}" for names in stages]
    return f"{len(blocks)} blocks: {', '.join(spans)}"


def main(arguments: list[str]) -> int:
    """Train or describe the net of --config; return the exit status."""
    command.refuse_arguments(arguments)
    config = command.config_from_flags()
    flag = flags.FLAGS["config"]
    given = config_flags.get_override_values(flag)
    check_is_config(config_flags.get_config_filename(flag), given, has_workdir=_WORKDIR.value is not None)
    if _DESCRIBE.value:
        check(config, devices=1)
        models.build(config.model, num_classes=1)  # Refuses a depth that the family does not have, before data load.
        image_shape, num_classes = data.shape(config.data)
        model = models.build(config.model, num_classes)
        stdout.print(models.architecture_table(models.describe(model, image_shape), image_shape))
        print(blocks_by_stage(models.block_names(model, image_shape)))
        return 0
    overrides = start_from(config, given)
    workdir = _WORKDIR.value or default_workdir(config_flags.get_config_filename(flag), overrides)
    set_xla_flags(config.deterministic)
    is_first_process = processes.join()
    workdir = pathlib.Path(workdir)
    summary = train(config, workdir, ["python", "-m", "experiments.main", *sys.argv[1:]])
    status = summary["status"]
    bad_layer = first_layer(config, workdir) if status == "diverged" and _DEBUG_NANS.value else None
    if is_first_process:
        stdout.print(summary_table(summary))
        say(f"The run is recorded in {workdir}")
        if status == "preempted":
            print("The same command resumes it.")
        if status == "diverged":
            say(bad_layer or "The same command with --debug_nans finds the first layer with non-finite values.")
    return {"finished": 0, "preempted": stopping.EXIT_PREEMPTED, "diverged": 1}[status]


if __name__ == "__main__":
    command.run(main)
