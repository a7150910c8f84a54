"""Outputs of two nets on the same images, and their differences."""

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

# Largest difference between the logits of nets that compute the same, and between the outputs of a block as a share of
# the largest number in them (or of 1, if that is larger). Rounding in float32 leaves 1e-5 of logits near 20.
TOLERANCE = 1e-4
# Number of pixels in the images of a batch, so that the outputs of all blocks fit into memory.
PIXELS_AT_ONCE = 2**17


class Differences(NamedTuple):
    """Differences between the outputs of two nets.

    Attributes:
      logits: the largest difference of logits.
      blocks: the largest difference of the outputs of a block, as a share of the largest number in them or of 1; None
        if outputs were not compared.
    """

    logits: float
    blocks: float | None = None


def forward(
    net: EditableNet, images: np.ndarray, gates: Any = None
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yield logits ``[batch, classes]`` of ``net`` and the output of each block by its name, batch by batch.

    The net uses running statistics and computes in the type of its variables, on one device and in that device's
    highest precision.

    Args:
      net: the net.
      images: normalised images, ``[examples, height, width, channels]``.
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
    """Return the logits of ``model`` and the outputs of its blocks, stacked like their parameters."""
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
    """Return the logits of ``net``, ``[examples, classes]``, with the same arguments as ``forward``."""
    return np.concatenate([logits for logits, _ in forward(net, images, gates)])


def moments(net: EditableNet, images: np.ndarray, names: Sequence[str]) -> dict[str, Moments]:
    """Return the mean and variance of each output of the blocks ``names``, over ``images`` and pixels."""
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
    """Return the differences between ``old`` and ``new`` on ``images``.

    Args:
      old: the old net.
      new: the new net.
      images: normalised images, as in ``forward``.
      counterparts: block of ``old`` that has the same output, for each block of ``new``.

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
    require_within_tolerance(of_blocks[worst], f"output of {worst}", len(images))
    require_within_tolerance(of_logits, "logits", len(images))
    return Differences(of_logits, of_blocks[worst])


def compare_with_gates(old: EditableNet, new: EditableNet, images: np.ndarray, deleted: Sequence[str]) -> Differences:
    """Return the difference on ``images`` between ``new`` and ``old`` with the blocks ``deleted`` by gates.

    Raises:
      UserError: logits differ by more than ``TOLERANCE``.
    """
    of_blocks = dict.fromkeys(old.blocks, RESIDUAL if old.config.residual else PLAIN)
    gates = models.gate_blocks(old.model, old.image_shape, of_blocks | dict.fromkeys(deleted, DELETED))
    difference = largest_difference(logits_of(old, images, gates), logits_of(new, images))
    require_within_tolerance(difference, "logits", len(images))
    return Differences(difference)


def largest_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest difference between two arrays, infinity if a number is not finite."""
    difference = float(np.max(np.abs(a - b)))
    return difference if math.isfinite(difference) else math.inf


def require_within_tolerance(difference: float, compared: str, images: int) -> None:
    """Raise a UserError if the ``difference`` of ``compared`` on a number of ``images`` is above ``TOLERANCE``."""
    if difference > TOLERANCE:
        raise UserError(
            f"the {compared} of the new net would differ by {difference:.1e} on {images} images, more than "
            f"{TOLERANCE:g}, because its numbers are too large or too different for this operation in float32; "
            "nothing was written."
        )


def error_of(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of examples whose label does not have the highest logit."""
    return float(np.mean(np.argmax(logits, axis=1) != labels))
