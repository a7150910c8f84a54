"""From the run directory of a trained net to that of the net that surgery makes of it."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from resnet_jax import data, evaluation
from resnet_jax.errors import UserError
from resnet_jax.surgery.check import TOLERANCE, error_of, logits_of
from resnet_jax.surgery.editable import EditableNet, open_net
from resnet_jax.surgery.operations import OPERATIONS, Operation
from resnet_jax.surgery.output import check_new, config_of, write_run
from resnet_jax.training import parallel

# Training images on which nets are compared and statistics taken.
IMAGES = 500


class Original(NamedTuple):
    """A trained net that surgery makes another of.

    Attributes:
      trained: the net.
      config: of its run, or that its weights fit.
      dataset: of this config.
      source: where it comes from, for the record: ``{"run": ..., "step": ...}``, with "warnings" if its data have
        changed since, or ``{"weights": ...}``.
    """

    trained: evaluation.TrainedNet
    config: ConfigDict
    dataset: data.Dataset | data.Stream
    source: dict[str, Any]


class Made(NamedTuple):
    """What surgery has made.

    Attributes:
      net: the new net.
      says: sentences on what was done, what the net was checked against, and its training error.
    """

    net: EditableNet
    says: list[str]


def of_run(workdir: pathlib.Path, data_dir: str | None = None) -> Original:
    """Return the newest net of the run in ``workdir``; ``data_dir`` is where its data set is now, if it has moved.

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
      original: the trained net.
      out: the run directory of the new net, a new folder.
      images: how many training images nets are compared on and statistics taken.
      command: the words of the command line, if there is one.
      **settings: of the operation, such as ``depth=56``.

    Raises:
      UserError: the operation is not for this net, the new net does not compute what it should, or ``out`` exists or
        cannot be written. Nothing is written then.
    """
    operation = operation_of(name)
    check_new(out)
    trained, config, dataset, source = original
    old = open_net(trained.name, trained.config, trained.variables)
    pixels, labels = evaluation.sample(dataset, config.data, trained, "train", images)
    new, done, compared, differences = operation.apply(old, pixels, **settings)
    before, after = (error_of(logits_of(net, pixels), labels) for net in (old, new))

    checks = {
        "split": "train",
        "images": len(pixels),
        "compared_with": compared,
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
    says = [done]
    if differences is not None:
        of_blocks = (
            "" if differences.blocks is None else f", outputs of blocks by {differences.blocks:.1e} of their size"
        )
        says.append(f"Checked against {compared}: logits differ by {differences.logits:.1e} at most{of_blocks}.")
    says.append(f"Error on {len(pixels)} training images: {before:.2%} before, {after:.2%} after.")
    return Made(new, says)
