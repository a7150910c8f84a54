"""Write the net of a run for use elsewhere.

    python -m experiments.export --run=runs/cifar_resnet20 --format=safetensors

A safetensors file has PyTorch's names: those of the usual CIFAR nets or of torchvision's. What the tensors do not tell,
above all how pixels are normalised, is in its metadata "resnet_jax", as JSON.

Exit status: 0 done, 2 the command must be mended.
"""

import pathlib

from absl import flags

from experiments import command
from resnet_jax import evaluation
from resnet_jax.errors import UserError
from resnet_jax.training import parallel

_RUN = flags.DEFINE_string("run", None, "Run directory.")
_FORMAT = flags.DEFINE_enum("format", "safetensors", ["safetensors"], "Of the file.")
_OUTPUT = flags.DEFINE_string("output", None, "The file; by default the run's name in its directory.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the run's data set lies now, if not where it lay then.")


def main(arguments: list[str]) -> int:
    """Write the net of --run; return the exit status."""
    command.refuse_arguments(arguments)
    if _RUN.value is None:
        raise UserError("name a run, as --run=runs/NAME.")
    run = pathlib.Path(_RUN.value)
    net = evaluation.of_run(run, parallel.device_mesh(), _DATA_DIR.value)
    path = command.new_file("output", _OUTPUT.value or run / f"{net.name}.{_FORMAT.value}")
    with command.saving(path):
        evaluation.write_weights(net, path)
    print(f"{net.kind} of {run} is written to {path}")
    return 0


if __name__ == "__main__":
    command.run(main, interrupted="Interrupted; nothing was written.")
