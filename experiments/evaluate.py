"""Evaluate trained nets: of runs, or from weights files trained elsewhere.

    python -m experiments.evaluate --run=runs/cifar_resnet20
    python -m experiments.evaluate --config=configs/cifar_resnet20.py --weights=weights.safetensors
    python -m experiments.evaluate --run=runs/one --run=runs/two --run=runs/three    # and their ensemble

Several nets are also evaluated as an ensemble: their probabilities are averaged. The images are those of --config, by
default those of the first run. A single weights file must fit the net of --config; with several files, the net of each
is inferred from its names and shapes.

Exit status: 0 done, 2 the command, the weights or the data needs fixing.
"""

import pathlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from absl import flags, logging
from jax.sharding import Mesh
from ml_collections import ConfigDict
from rich.markup import escape
from rich.progress import track

from experiments import command, processes
from resnet_jax import data, evaluation, identity, models
from resnet_jax.config import check
from resnet_jax.errors import UserError
from resnet_jax.escape import printable
from resnet_jax.evaluation.views import check_protocol
from resnet_jax.fields import FIELDS
from resnet_jax.hosts import together
from resnet_jax.rundir import read_config
from resnet_jax.safe_files import write_json
from resnet_jax.terminal import console, say, stdout
from resnet_jax.training import parallel
from resnet_jax.training.checkpoints import digest
from resnet_jax.training.environment import versions

DEFAULTS = evaluation.ForeignDefaults()

_CONFIG = command.define_config("Config file, one of configs/*.py.")
_RUNS = command.define_paths("run", "Run directory")
_WEIGHTS = command.define_paths("weights", "Weights file: of safetensors, or of torch.save.")
_WEIGHTS_KEY = command.define_weights_key()
_SPLIT = flags.DEFINE_string("split", "test", "Which images to evaluate: train, validation or test.")
_PROTOCOL = flags.DEFINE_enum(
    "protocol", "single", evaluation.PROTOCOLS, "Views of an image that are averaged (paper, section 3.4)."
)
_FLIP = flags.DEFINE_bool("flip", False, "Average mirrored views too.")
_OUTPUT = command.define_path("output", "JSON file for the results.")
_PREDICTIONS = command.define_path(
    "predictions", "npz file for logits and labels; of the ensemble if there are several nets."
)
# What weights files from elsewhere do not record.
_MEAN = flags.DEFINE_list(
    "mean", list(DEFAULTS.mean), "For foreign weights: mean of each channel, with pixels scaled to [0, 1]."
)
_STD = flags.DEFINE_list("std", list(DEFAULTS.std), "For foreign weights: standard deviation of each channel.")
_EPSILON = flags.DEFINE_float(
    "epsilon",
    DEFAULTS.epsilon,
    "For foreign weights: epsilon of the batch norms; the default is what published nets use.",
    0,
)
_BOTTLENECK_STRIDE = flags.DEFINE_enum(
    "bottleneck_stride",
    DEFAULTS.bottleneck_stride,
    FIELDS["model.bottleneck_stride"].choices,
    "For foreign weights: stride on the middle 3x3 convolution, or on the first 1x1 as in nets converted from Caffe.",
)
flags.adopt_module_key_flags(processes)


def config_of_data() -> ConfigDict:
    """Return the config that determines the images: --config if given, else the first run's."""
    if _CONFIG.value is not None or not _RUNS.value:
        return command.config_from_flags()
    recorded = read_config(pathlib.Path(_RUNS.value[0]))
    if recorded is None:
        raise UserError(f"--run={_RUNS.value[0]} is not a run directory; use one like runs/NAME.")
    return recorded.config


def floats(flag: flags.FlagHolder) -> tuple[float, ...]:
    """Return the numbers that ``flag`` lists."""
    try:
        return tuple(float(value) for value in flag.value)
    except ValueError as error:
        raise UserError(f"--{flag.name}={','.join(flag.value)} must be numbers, e.g. 0.5,0.5,0.5.") from error


def images_of(examples: Iterable[tuple[np.ndarray, int]], labels: list[int]) -> Iterator[np.ndarray]:
    """Yield the images of ``examples`` and append their labels to ``labels``."""
    for image, label in examples:
        labels.append(label)
        yield image


def nets_from_flags(config: ConfigDict, dataset: data.Dataset | data.Stream, mesh: Mesh) -> list[evaluation.TrainedNet]:
    """Return the nets of --run and --weights, checked against the classes of ``dataset``."""
    data_dir = None if _CONFIG.value is None else config.data.data_dir
    nets = [evaluation.of_run(pathlib.Path(run), mesh, data_dir) for run in _RUNS.value]
    defaults = evaluation.ForeignDefaults(
        config.model.residual, _BOTTLENECK_STRIDE.value, _EPSILON.value, floats(_MEAN), floats(_STD)
    )
    image_shape = data.image_shape(dataset)
    expected = config.model if len(_WEIGHTS.value) == 1 else None
    where = (image_shape, dataset.num_classes, expected, defaults, config.dtype, _WEIGHTS_KEY.value)
    nets += [evaluation.of_weights(pathlib.Path(file), *where) for file in _WEIGHTS.value]
    for net in nets:
        identity.check_classes(net.class_names, dataset.class_names, net.name)
        check_protocol(net.name, net.crop, _PROTOCOL.value)
        if net.num_classes != dataset.num_classes:
            raise UserError(
                f"{net.name} has {net.num_classes} classes, but {config.data.name} has {dataset.num_classes}; evaluate "
                "it on its own data set."
            )
    return nets


def changed_data(found: dict[str, Any]) -> list[str]:
    """Return sentences on the runs that were trained on other data than ``found``, as of ``data.identify``."""
    said = []
    for run in _RUNS.value:
        recorded = identity.read(pathlib.Path(run))
        said += identity.changed_data(recorded, found, run) if recorded else []
    for sentence in said:
        logging.warning("%s", sentence)
    return said


def main(arguments: list[str]) -> int:
    """Evaluate the nets of --run and --weights; return the exit status."""
    command.refuse_arguments(arguments)
    if not (_RUNS.value or _WEIGHTS.value):
        raise UserError("nothing to evaluate; give --run=runs/NAME or --weights=FILE.safetensors.")
    output = command.new_file("output", _OUTPUT.value) if _OUTPUT.value else None
    predictions = command.new_file("predictions", _PREDICTIONS.value) if _PREDICTIONS.value else None
    config = config_of_data()
    check(config, devices=1)
    models.build(config.model, num_classes=1)  # Refuses a depth that the family does not have.
    is_first_process = processes.join()
    mesh = parallel.device_mesh()
    with together():
        dataset = data.load(config.data)
        if _SPLIT.value not in dataset.splits:
            raise UserError(f"--split={_SPLIT.value} does not exist; the splits are {', '.join(dataset.splits)}.")
        nets = nets_from_flags(config, dataset, mesh)
        images = data.identify(dataset)
        warnings = [] if _CONFIG.value else changed_data(images)
    seen = {"data": config.data.name, "split": _SPLIT.value}
    views = {"protocol": _PROTOCOL.value, "flip": _FLIP.value}
    with together():
        digests = [digest(net.variables, {}) for net in nets]
        fields = identity.of_all_processes(config)
        compared = {"config": fields, "versions": versions(), "data": identity.shared(images), "nets": digests}
        identity.agree(compared | seen | views)

    rows, logits, labels = [], [], np.array([])
    for net in nets:
        count, examples = data.examples(dataset, _SPLIT.value, skip=config.data.on_bad_image == "skip")
        name = escape(printable(net.name))
        shown = track(examples, name, count, console=console, transient=True, disable=not console.is_terminal)
        seen_labels: list[int] = []
        settings = (config.parallel.mapper, config.eval_batch_size, _PROTOCOL.value, _FLIP.value)
        found, rate = evaluation.predict(net, images_of(shown, seen_labels), mesh, *settings)
        labels = np.array(seen_labels)
        logits.append(found)
        rows.append(evaluation.Row(net.name, net.kind, evaluation.score(found, labels), rate))
    if len(nets) > 1:
        logits = [evaluation.average(logits)]
        rows.append(evaluation.Row("ensemble", f"{len(nets)} nets", evaluation.score(logits[0], labels), None))

    words = ["python", "-m", "experiments.evaluate", *sys.argv[1:]]
    if not is_first_process:
        return 0
    title = f"{config.data.name} {_SPLIT.value}, {len(labels):,} images, {_PROTOCOL.value}{' and flip' * _FLIP.value}"
    stdout.print(evaluation.table(rows, title))
    if output:
        with command.saving(output):
            said = {"warnings": warnings} if warnings else {}
            seen |= {"images": len(labels)}
            write_json(output, {"command": words, **seen, **views, "nets": evaluation.records(rows), **said})
        say(f"Results: {output}")
    if predictions:
        with command.saving(predictions), predictions.open("xb") as file:
            np.savez(file, logits=logits[0], labels=labels)
        say(f"Logits and labels: {predictions}")
    return 0


if __name__ == "__main__":
    command.run(main, interrupted="Interrupted; nothing was written.")
