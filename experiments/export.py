"""Export the net of a run for use elsewhere.

    python -m experiments.export --run=runs/cifar_resnet20 --format=safetensors
    python -m experiments.export --run=runs/cifar_resnet20 --format=stablehlo

The safetensors file uses the PyTorch names of the usual CIFAR nets or of torchvision. What the tensors do not record,
above all how pixels are normalised, is in its metadata "resnet_jax", as JSON.

The stablehlo file is a program with the weights in it. It needs JAX and flatbuffers, but nothing of this project:

    import pathlib, jax, jax.export
    exported = jax.export.deserialize(pathlib.Path("runs/cifar_resnet20/cifar_resnet20.stablehlo").read_bytes())
    logits = jax.jit(exported.call)(images)    # uint8 [batch, height, width, channels], any batch size

Exit status: 0 done, 2 the command needs fixing.
"""

import pathlib

from absl import flags

from experiments import command
from resnet_jax import evaluation
from resnet_jax.errors import UserError
from resnet_jax.terminal import say
from resnet_jax.training import parallel

# From a format, which is also the suffix of its files, to what writes a net in it.
WRITERS = {"safetensors": evaluation.write_weights, "stablehlo": evaluation.write_stablehlo}

_RUN = command.define_path("run", "Run directory.")
_FORMAT = flags.DEFINE_enum(
    "format",
    "safetensors",
    list(WRITERS),
    "File format: weights under PyTorch's names, or a program that JAX runs without this project.",
)
_OUTPUT = command.define_path("output", "Output file; by default in the run directory, with the run's name.")
_DATA_DIR = command.define_path("data_dir", "Where the run's data set is now, if it has moved.")


def main(arguments: list[str]) -> int:
    """Export the net of --run; return the exit status."""
    command.refuse_arguments(arguments)
    if _RUN.value is None:
        raise UserError("--run is missing; give a run directory, e.g. --run=runs/NAME.")
    run = pathlib.Path(_RUN.value)
    net = evaluation.of_run(run, parallel.device_mesh(), _DATA_DIR.value)
    path = command.new_file("output", _OUTPUT.value or run / f"{net.name}.{_FORMAT.value}")
    with command.saving(path):
        WRITERS[_FORMAT.value](net, path)
    say(f"Exported {net.kind} of {run} to {path}")
    return 0


if __name__ == "__main__":
    command.run(main, interrupted="Interrupted; nothing was written.")
