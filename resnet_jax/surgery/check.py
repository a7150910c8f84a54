"""What two nets compute on the same images, and by how much it differs."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import numpy as np

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.models.block import Block
from resnet_jax.models.gates import DELETED, PLAIN, RESIDUAL
from resnet_jax.models.resnet import ResNet
from resnet_jax.surgery.edit import Moments
from resnet_jax.surgery.editable import EditableNet

# Nets that compute the same have logits that differ by no more, and outputs of blocks that differ by no more than this
# share of the largest number in them (of 1, if that is less). Rounding in float32 leaves 1e-5 of logits near 20.
TOLERANCE = 1e-4
# Pixels of the images that are computed at once, so that the outputs of all blocks fit into memory.
PIXELS_AT_ONCE = 2**17


class Differences(NamedTuple):
    """By how much the outputs of two nets differ.

    Attributes:
      logits: the largest difference of logits.
      blocks: the largest difference of the outputs of a block, as a share of the largest number in them or of 1; None
        if these were not compared.
    """

    logits: float
    blocks: float | None = None


def forward(
    net: EditableNet, images: np.ndarray, gates: Any = None
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yield logits ``[batch, classes]`` of ``net`` and the output of each block by its name, batch by batch.

    The net has its running statistics, and computes in the type of its variables, on one device and as exactly as that
    device can.

    Args:
      net: the net.
      images: normalised, ``[examples, height, width, channels]``.
      gates: collection "gates", or None.
    """
    variables = net.variables if gates is None else net.variables | {"gates": gates}
    model = net.model.clone(dtype=net.variables["params"]["head"]["bias"].dtype)
    compute = jax.jit(functools.partial(logits_and_blocks, model))
    pixels = math.prod(images.shape[1:3])
    batches = math.ceil(len(images) / max(1, PIXELS_AT_ONCE // pixels))
    for batch in np.array_split(images, batches):
        with jax.default_matmul_precision("highest"):  # Else GPUs and TPUs round the factors of products.
            logits, outputs = jax.device_get(compute(variables, batch))
        blocks = models.unstack({"outputs": outputs})
        yield logits, {"/".join(path[1:-1]): blocks[path] for path in blocks}


def logits_and_blocks(model: ResNet, variables: Any, images: jax.Array) -> tuple[jax.Array, Any]:
    """Return the logits of ``model`` and the outputs of its blocks, stacked as their parameters are."""
    applied: Any = model.apply(
        variables,
        images,
        train=False,
        capture_intermediates=lambda module, method: isinstance(module, Block) and method == "__call__",
        mutable=["intermediates"],
    )
    logits, updates = applied
    captured = flax.traverse_util.flatten_dict(updates["intermediates"])
    return logits, flax.traverse_util.unflatten_dict({path: output for path, (output,) in captured.items()})


def logits_of(net: EditableNet, images: np.ndarray, gates: Any = None) -> np.ndarray:
    """Return the logits of ``net``, ``[examples, classes]``; the arguments are those of ``forward``."""
    return np.concatenate([logits for logits, _ in forward(net, images, gates)])


def moments(net: EditableNet, images: np.ndarray, names: Sequence[str]) -> dict[str, Moments]:
    """Return mean and variance of the output of each of the blocks ``names``, over ``images`` and pixels."""
    sums: dict[str, list[np.ndarray]] = {name: [np.zeros(1), np.zeros(1)] for name in names}
    pixels = dict.fromkeys(names, 0)
    for _, blocks in forward(net, images):
        for name in names:
            output = blocks[name].astype(np.float64)
            pixels[name] += math.prod(output.shape[:3])
            for power in (1, 2):
                sums[name][power - 1] = sums[name][power - 1] + np.sum(output**power, axis=(0, 1, 2))
    means = {name: (sums[name][0] / pixels[name], sums[name][1] / pixels[name]) for name in names}
    return {name: (mean, np.maximum(square - mean**2, 0)) for name, (mean, square) in means.items()}


def compare(old: EditableNet, new: EditableNet, images: np.ndarray, counterparts: Mapping[str, str]) -> Differences:
    """Return by how much ``old`` and ``new`` differ on ``images``.

    Args:
      old: the old net.
      new: the new net.
      images: as of ``forward``.
      counterparts: for each block of ``new`` the block of ``old`` whose output it has.

    Raises:
      UserError: logits or the outputs of a block differ by more than ``TOLERANCE``.
    """
    of_logits, of_blocks = 0.0, dict.fromkeys(counterparts, 0.0)
    for (old_logits, old_blocks), (new_logits, new_blocks) in zip(
        forward(old, images), forward(new, images), strict=True
    ):
        of_logits = max(of_logits, largest_difference(old_logits, new_logits))
        for name, counterpart in counterparts.items():
            output = old_blocks[counterpart]
            share = largest_difference(output, new_blocks[name]) / max(1.0, float(np.max(np.abs(output))))
            of_blocks[name] = max(of_blocks[name], share)
    worst = max(of_blocks, key=lambda name: of_blocks[name])
    refuse_beyond(of_blocks[worst], f"output of {worst}", len(images))
    refuse_beyond(of_logits, "logits", len(images))
    return Differences(of_logits, of_blocks[worst])


def compare_with_gates(old: EditableNet, new: EditableNet, images: np.ndarray, deleted: Sequence[str]) -> Differences:
    """Return by how much ``new`` differs on ``images`` from ``old`` whose blocks ``deleted`` are so by their gates.

    Raises:
      UserError: logits differ by more than ``TOLERANCE``.
    """
    of_blocks = dict.fromkeys(old.blocks, RESIDUAL if old.config.residual else PLAIN)
    gates = models.gate_blocks(old.model, old.image_shape, of_blocks | dict.fromkeys(deleted, DELETED))
    difference = largest_difference(logits_of(old, images, gates), logits_of(new, images))
    refuse_beyond(difference, "logits", len(images))
    return Differences(difference)


def largest_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest difference of two arrays, infinity if a number is not finite."""
    difference = float(np.max(np.abs(a - b)))
    return difference if math.isfinite(difference) else math.inf


def refuse_beyond(difference: float, what: str, images: int) -> None:
    """Raise a UserError if ``difference``, of ``what`` on so many ``images``, is more than ``TOLERANCE``."""
    if difference > TOLERANCE:
        raise UserError(
            f"the {what} of the new net would differ by {difference:.1e} on {images} images, more than {TOLERANCE:g}, "
            "because its numbers are too large or too different for this operation in float32; nothing was written."
        )


def error_of(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of ``labels`` that do not have the highest of ``logits``."""
    return float(np.mean(np.argmax(logits, axis=1) != labels))
