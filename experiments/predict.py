"""Classify images by a trained net.

    python -m experiments.predict --run=runs/digits_resnet20 photo.png folder_of_images
    python -m experiments.predict --config=configs/cifar_resnet20.py --weights=weights.safetensors photo.png

Prints the most probable classes of each image; --output has the probabilities of all. The data set that the net was
trained on is not needed. Images are seen as in training: a net trained on crops takes any size, others take images of
the size of their data set.

Exit status: 0 done, 2 the command, the net or an image needs fixing.
"""

import pathlib
import sys

from absl import flags
from ml_collections import ConfigDict
from rich.table import Table

from experiments import command
from resnet_jax import data, evaluation
from resnet_jax.config import check
from resnet_jax.errors import UserError
from resnet_jax.escape import printable
from resnet_jax.rundir import read_config
from resnet_jax.safe_files import write_json
from resnet_jax.terminal import say, stdout
from resnet_jax.training import parallel

_CONFIG = command.define_config("Config file of the net of --weights, one of configs/*.py.")
_RUN = command.define_path("run", "Run directory.")
_WEIGHTS = command.define_path("weights", "Weights file of a net, which must fit the net of --config.")
_WEIGHTS_KEY = command.define_weights_key()
_TOP = flags.DEFINE_integer("top", 3, "How many classes of each image are shown.", 1)
_OUTPUT = command.define_path("output", "JSON file for the probabilities of all classes.")
_DATA_DIR = command.define_path("data_dir", "Folder of the data set of an old run, which did not record its classes.")


def table(found: list[evaluation.Classified], title: str, top: int) -> Table:
    """Return ``found`` as a table of the ``top`` most probable classes of each image."""
    printed = Table(title=title)
    printed.add_column("image", overflow="fold")
    printed.add_column("class", overflow="fold")
    printed.add_column("probability", justify="right")
    for file, probabilities in found:
        for row, (name, probability) in enumerate([*probabilities.items()][:top]):
            printed.add_row("" if row else printable(str(file)), printable(name), f"{probability:.1%}")
    return printed


def net_from_flags() -> tuple[evaluation.TrainedNet, ConfigDict]:
    """Return the net of --run or --weights, and the ``data`` part of its config."""
    if (_RUN.value is None) == (_WEIGHTS.value is None):
        raise UserError("give --run=runs/NAME, or --config=... and --weights=FILE.")
    if _RUN.value is not None:
        run = pathlib.Path(_RUN.value)
        net = evaluation.of_run(run, parallel.device_mesh(), _DATA_DIR.value)
        recorded = read_config(run)
        assert recorded is not None  # As ``of_run`` has it.
        return net, recorded.config.data
    config, file = command.config_from_flags(), pathlib.Path(_WEIGHTS.value)
    check(config, devices=1)
    model = config.model
    defaults = evaluation.ForeignDefaults(model.residual, model.bottleneck_stride)
    image_shape, num_classes = evaluation.recorded_shape(file, _WEIGHTS_KEY.value) or data.shape(config.data)
    net = evaluation.of_weights(file, image_shape, num_classes, model, defaults, config.dtype, _WEIGHTS_KEY.value)
    if net.size is None and net.crop is None:  # A file from elsewhere says nothing of it.
        height, width, _ = image_shape
        net = net._replace(size=(height, width))
    return net, config.data


def main(arguments: list[str]) -> int:
    """Classify the images in ``arguments``; return the exit status."""
    if not arguments:
        raise UserError("no images; give files or folders, as in python -m experiments.predict --run=runs/NAME a.png.")
    files = evaluation.image_files([pathlib.Path(argument) for argument in arguments])
    output = command.new_file("output", _OUTPUT.value) if _OUTPUT.value else None
    net, config = net_from_flags()
    skip = config.on_bad_image == "skip"
    found = evaluation.classify(net, files, parallel.device_mesh(), config.downsample, skip)
    stdout.print(table(found, f"{net.kind} of {net.name}, {len(found):,} images", _TOP.value))
    if net.class_names is None:
        say("The file does not name its classes: they are numbered from 0, in the order of its data set.")
    if output:
        content = {
            "command": ["python", "-m", "experiments.predict", *sys.argv[1:]],
            "net": net.name,
            "images": [{"file": str(file), "probabilities": probabilities} for file, probabilities in found],
        }
        with command.saving(output):
            write_json(output, content)
        say(f"Probabilities of all classes: {output}")
    return 0


if __name__ == "__main__":
    command.run(main, interrupted="Interrupted; nothing was written.")
