"""Train a net from a config.

    python -m experiments.main --config=configs/cifar_plain56.py
    python -m experiments.main --config=configs/cifar_plain56.py --config.model.depth=110 --config.seed=3
    python -m experiments.main --config=configs/cifar_resnet20.py --describe

Any field of the config is overridden by --config.FIELD=VALUE behind --config; configs/recipes.py lists the fields with
their meaning. The run is recorded in --workdir: its config, metrics.jsonl, TensorBoard events, checkpoints and
summary.json. The same command resumes a run that was interrupted.

Exit status: 0 the run has finished, 1 it has not (diverged or interrupted), 2 the command or the config must be mended.
"""

import pathlib
import sys
from typing import Any

import rich
from absl import flags
from ml_collections import config_flags

from experiments import command
from resnet_jax import data, models
from resnet_jax.backend import keep_compiled_programs, keep_freed_memory
from resnet_jax.training import fields, summary_table, train

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, one of configs/*.py.", lock_config=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Run directory; by default runs/ and the names of config and overrides."
)
_DESCRIBE = flags.DEFINE_bool("describe", False, "Print the net's architecture as a table and train nothing.")


def default_workdir(config_file: str, overrides: dict[str, Any]) -> pathlib.Path:
    """Return runs/ and a name made of the config and of its overrides, but for where the data lies."""
    changes = [f"{name.split('.')[-1]}={value}" for name, value in overrides.items() if name != "data.data_dir"]
    return pathlib.Path("runs", "-".join([pathlib.Path(config_file).stem, *changes]).replace("/", "_"))


def main(arguments: list[str]) -> int:
    """Train or describe the net of --config; return the exit status."""
    command.refuse_arguments(arguments)
    config = command.config_from_flags()
    if _DESCRIBE.value:
        fields.check(config, devices=1)
        image_shape, num_classes = data.shape(config.data)
        model = models.build(config.model, num_classes)
        rich.print(models.architecture_table(models.describe(model, image_shape), image_shape))
        return 0
    flag = flags.FLAGS["config"]
    workdir = _WORKDIR.value or default_workdir(
        config_flags.get_config_filename(flag), config_flags.get_override_values(flag)
    )
    keep_compiled_programs()
    keep_freed_memory()
    summary = train(config, pathlib.Path(workdir), ["python", "-m", "experiments.main", *sys.argv[1:]])
    rich.print(summary_table(summary))
    print(f"The run is recorded in {workdir}")
    if summary["status"] == "preempted":
        print("The same command resumes it.")
    return 0 if summary["status"] == "finished" else 1


if __name__ == "__main__":
    command.run(main)
