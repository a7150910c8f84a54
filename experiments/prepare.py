"""Download the data set of a config and prepare it for training, once.

    python -m experiments.prepare --config=configs/cifar_resnet20.py
    python -m experiments.prepare --config=configs/cifar_resnet20.py --config.data.data_dir=/data
    python -m experiments.prepare --config=configs/imagenet_resnet50.py --manual_dir=/archives

The data set can be any of TensorFlow Datasets. It is stored in config.data.data_dir, by default TFDS_DATA_DIR, else
~/tensorflow_datasets. Training prepares a missing data set too, but then the accelerator waits. ImageNet needs two
archives that you have to download yourself, see docs/imagenet.md.

Exit status: 0 the data set is prepared, 2 the command, the archives or the storage needs fixing.
"""

import pathlib

from experiments import command
from resnet_jax.config import check
from resnet_jax.data import locate

_CONFIG = command.define_config("Config file, one of configs/*.py.")
_MANUAL_DIR = command.define_path(
    "manual_dir", "Folder of archives downloaded by hand; by default downloads/manual in data_dir."
)


def main(arguments: list[str]) -> int:
    """Prepare the data set of --config; return the exit status."""
    command.refuse_arguments(arguments)
    config = command.config_from_flags()
    check(config, devices=1)
    name = config.data.name
    if name in ("digits", "folder"):
        print(f"config.data.name={name} needs no preparation.")
        return 0
    root = locate.data_root(config.data.data_dir)
    folder = locate.find(name, root)
    if folder:
        print(f"{name} is already prepared in {locate.summary(folder)}")
        return 0
    manual_dir = pathlib.Path(_MANUAL_DIR.value) if _MANUAL_DIR.value else None
    with locate.located(name, config.data.data_dir, manual_dir) as folder:
        print(f"{name} is prepared in {locate.summary(folder)}")
    return 0


if __name__ == "__main__":
    command.run(main, interrupted="Interrupted; the data set is not prepared, and the same command starts over.")
