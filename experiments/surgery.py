"""Make a new net from a trained one, without training.

    python -m experiments.surgery insert_identity --run=runs/plain20 --depth=56 --out=runs/plain20_as_56
    python -m experiments.surgery to_plain --run=runs/resnet20 --out=runs/resnet20_as_plain
    python -m experiments.surgery delete --run=runs/resnet56 --blocks=stage2/block3,stage2/block4 --out=runs/lesion
    python -m experiments.surgery fold_norms --config=configs/cifar_resnet20.py --weights=FILE --out=runs/folded

Operations:

    insert_identity   a deeper net, of --depth layers, by blocks that change nothing; in a plain net --noise=T adds to
                      their kernels T times draws from N(0, 2 / fan-in), from --seed. Blocks inserted into a
                      residual net have a branch of zeros by its last layer, all else as drawn initially from --seed
    fold_norms        batch norms become part of the convolutions before them
    to_plain          a residual net as a plain one
    to_residual       a plain net as a residual one
    merge_branches    the branches of a RepVGG net as one convolution each
    delete            the output of each of --blocks becomes its shortcut, in a plain net its input
    permute           two --blocks of one stage are exchanged

The new net is checked against the old one on --images training images, with running statistics; if it does not compute
what it should, nothing is written. --out becomes a run directory: experiments.evaluate --run=OUT evaluates the net,
experiments.main --config=... --from=OUT trains it.

Exit status: 0 done, 2 the command, the net or the data needs fixing.
"""

import pathlib
import sys
from typing import Any

import numpy as np
from absl import flags

from experiments import command
from resnet_jax import data, evaluation, surgery
from resnet_jax.errors import UserError
from resnet_jax.terminal import say
from resnet_jax.training import scaling

_CONFIG = command.define_config("Config file of the net of --weights, one of configs/*.py.")
_RUN = command.define_path("run", "Run directory of the trained net.")
_WEIGHTS = command.define_path("weights", "Weights file of the trained net, which must fit the net of --config.")
_WEIGHTS_KEY = command.define_weights_key()
_OUT = command.define_path("out", "Run directory for the new net; a new folder.")
_IMAGES = flags.DEFINE_integer(
    "images", surgery.IMAGES, "Training images on which nets are compared and statistics taken.", 1
)
_DATA_DIR = command.define_path("data_dir", "Where the data set of --run is now, if it has moved.")
SETTINGS = {
    "depth": flags.DEFINE_integer("depth", None, "insert_identity: layers of the new net."),
    "noise": flags.DEFINE_float("noise", None, "insert_identity: size of the noise; by default none.", 0, 1e6),
    "seed": flags.DEFINE_integer("seed", None, "insert_identity: seed of all that is drawn; by default 0.", 0),
    "blocks": flags.DEFINE_list("blocks", None, "delete, permute: names of blocks, as stage2/block3,stage2/block5."),
}


def operation_from_flags(arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """Return the name of the operation and its settings.

    Raises:
      UserError: there is no such operation, or a flag is missing or of another operation.
    """
    if not arguments:
        raise UserError(f"no operation given; give one of {', '.join(surgery.OPERATIONS)}.")
    name, *others = arguments
    command.refuse_arguments(others)
    operation = surgery.operation_of(name)
    settings = {setting: flag.value for setting, flag in SETTINGS.items() if flag.value is not None}
    for needed in operation.needs:
        if not settings.get(needed):
            raise UserError(f"{name} needs --{needed}; see --help.")
    for setting in settings:
        if setting not in operation.needs + operation.takes:
            raise UserError(f"--{setting} is not for {name}; leave it out.")
    return name, settings


def original_from_flags() -> surgery.Original:
    """Return the trained net."""
    if (_RUN.value is None) == (_WEIGHTS.value is None) or None not in (_RUN.value, _CONFIG.value):
        raise UserError("give either --run=runs/NAME or --config=... and --weights=FILE.")
    if _RUN.value is not None:
        return surgery.of_run(pathlib.Path(_RUN.value), _DATA_DIR.value)
    config = scaling.resolved(command.config_from_flags(), devices=1)
    dataset = data.load(config.data)
    file = pathlib.Path(_WEIGHTS.value)
    defaults = evaluation.ForeignDefaults(config.model.residual, config.model.bottleneck_stride)
    shape = data.image_shape(dataset)
    net = evaluation.of_weights(file, shape, dataset.num_classes, config.model, defaults, key=_WEIGHTS_KEY.value)
    mean, std = data.normalisation(dataset, config.data)
    if not (np.allclose(net.mean, mean) and np.allclose(net.std, 1 if std is None else std)):
        raise UserError(
            f"--weights={file} is of a net whose pixels are normalised otherwise than by config.data.mean="
            f"{config.data.mean!r} and config.data.std={config.data.std!r}; give the config of its run, or for weights "
            "from elsewhere --config.data.mean=imagenet --config.data.std=imagenet."
        )
    key = {} if _WEIGHTS_KEY.value is None else {"weights_key": _WEIGHTS_KEY.value}
    return surgery.Original(net, config, dataset, {"weights": str(file.resolve())} | key)


def main(arguments: list[str]) -> int:
    """Make the new net and write its run directory; return the exit status."""
    name, settings = operation_from_flags(arguments)
    if _OUT.value is None:
        raise UserError("--out is missing; give a new folder, e.g. --out=runs/NAME.")
    out = pathlib.Path(_OUT.value)
    surgery.require_new_folder(out)
    words = ["python", "-m", "experiments.surgery", *sys.argv[1:]]
    made = surgery.operate(name, original_from_flags(), out, _IMAGES.value, words, **settings)
    for message in made.messages:
        say(message)
    say(f"The run directory of the new net, {made.net.title}, is {out}")
    return 0


if __name__ == "__main__":
    command.run(main, interrupted="Interrupted; nothing was written.")
