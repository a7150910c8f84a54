"""From the run directory of a trained net to a run directory of the net that surgery makes."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from resnet_jax import data, evaluation
from resnet_jax.errors import UserError
from resnet_jax.surgery.check import TOLERANCE, error_of, logits_of
from resnet_jax.surgery.editable import EditableNet, open_net
from resnet_jax.surgery.operations import OPERATIONS, Operation
from resnet_jax.surgery.output import config_of, require_new_folder, write_run
from resnet_jax.training import parallel

# Number of training images for comparisons of nets and for statistics.
IMAGES = 500


class Original(NamedTuple):
    """A trained net, the input of surgery.

    Attributes:
      trained: trained net.
      config: config of its run, or the one that its weights fit.
      dataset: data set of this config.
      source: origin of the net, for the record: ``{"run": ..., "step": ...}``, with "warnings" if its data have
        changed since, or ``{"weights": ...}``.
    """

    trained: evaluation.TrainedNet
    config: ConfigDict
    dataset: data.Dataset | data.Stream
    source: dict[str, Any]


class Made(NamedTuple):
    """The result of surgery.

    Attributes:
      net: new net.
      messages: what the operation did, how the new net compares, and its training error.
    """

    net: EditableNet
    messages: list[str]


def of_run(workdir: pathlib.Path, data_dir: str | None = None) -> Original:
    """Return the newest net of the run in ``workdir``; ``data_dir`` is the folder of its data set, if it has moved.

    Raises:
      UserError: there is no run, it has no checkpoint, or its data set is missing.
    """
    trained, config, dataset, warnings = evaluation.open_run(workdir, parallel.device_mesh(), data_dir)
    source = {"run": str(workdir.resolve()), "step": trained.step} | ({"warnings": warnings} if warnings else {})
    return Original(trained, config, dataset, source)


def operation_of(name: str) -> Operation:
    """Return the operation called ``name``; raise a UserError if there is none."""
    if name not in OPERATIONS:
        raise UserError(f"unknown operation {name!r}; give one of {', '.join(OPERATIONS)}.")
    return OPERATIONS[name]


def operate(
    name: str, original: Original, out: pathlib.Path, images: int = IMAGES, command: Sequence[str] = (), **settings: Any
) -> Made:
    """Make another net of ``original``, check it, and write its run directory.

    Args:
      name: one of ``OPERATIONS``.
      original: trained net.
      out: run directory of the new net, a new folder.
      images: number of training images for comparisons and statistics.
      command: words of the command line, if there is one.
      **settings: settings of the operation, such as ``depth=56``.

    Raises:
      UserError: the operation does not apply to this net, the new net differs too much, or ``out`` exists or cannot be
        written. Then nothing is written.
    """
    operation = operation_of(name)
    require_new_folder(out)
    trained, config, dataset, source = original
    old = open_net(trained.name, trained.config, trained.variables)
    pixels, labels = evaluation.sample(dataset, config.data, trained, "train", images)
    new, message, compared_with, differences = operation.apply(old, pixels, **settings)
    before, after = (error_of(logits_of(net, pixels), labels) for net in (old, new))

    checks = {
        "split": "train",
        "images": len(pixels),
        "compared_with": compared_with,
        "largest_logit_difference": differences and differences.logits,
        "largest_block_difference": differences and differences.blocks,
        "tolerance": TOLERANCE,
        "error_before": before,
        "error_after": after,
    }
    content = {"operation": name, "settings": settings, "source": source, "checks": checks}
    write_run(
        out, config_of(config, new), new, data.identify(dataset), (trained.mean, trained.std), content, [*command]
    )
    messages = [message]
    if differences is not None:
        of_blocks = (
            "" if differences.blocks is None else f", outputs of blocks by {differences.blocks:.1e} of their size"
        )
        messages.append(
            f"Checked against {compared_with}: logits differ by {differences.logits:.1e} at most{of_blocks}."
        )
    messages.append(f"Error on {len(pixels)} training images: {before:.2%} before, {after:.2%} after.")
    return Made(new, messages)
