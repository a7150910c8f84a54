"""A trained net as a program that runs without this project: StableHLO, as ``jax.export`` writes it."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from resnet_jax.data import augment
from resnet_jax.errors import UserError
from resnet_jax.evaluation.nets import TrainedNet
from resnet_jax.evaluation.predict import mean_for
from resnet_jax.safe_files import write_bytes, write_json

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def exported(net: TrainedNet) -> export.Exported:
    """Return ``net`` as a program that holds its weights and maps images to logits.

    The images are uint8 ``[batch, height, width, channels]``, normalised inside; the logits are float32
    ``[batch, classes]``, the same as from ``predict`` with one view of each image. The batch size is free; height and
    width are the training images' or crops'. Where the net computes in a different form on some platform, the program
    contains each form and selects by platform.

    Raises:
      UserError: ``net`` takes images of any size.
    """
    if net.size is None and net.crop is None:
        raise UserError(
            f"{net.name} takes images of any size, but a program is for one size; set it, e.g. "
            "net._replace(size=(32, 32))."
        )
    size: Any = net.size or (net.crop, net.crop)
    mean, std = jnp.asarray(mean_for(net, size)), jnp.asarray(net.std)

    def logits(images: jax.Array) -> Any:
        return net.model.apply(net.variables, augment.normalise(images, mean, std), train=False)

    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *size, mean.shape[-1]), jnp.uint8)
    return export.export(jax.jit(logits), platforms=PLATFORMS)(images)


def write_stablehlo(net: TrainedNet, path: pathlib.Path) -> None:
    """Write ``exported(net)`` to file ``path`` atomically, for ``jax.export.deserialize``.

    The program returns logits. The names of their classes, if the net has them, are in a second file, ``path`` with
    ".json" appended.

    Raises:
      UserError: ``net`` takes images of any size, or the second file exists.
      OSError: the file cannot be written.
    """
    names = path.with_name(f"{path.name}.json")
    if names.exists():
        raise UserError(f"{names} already exists; remove it or choose another file.")
    write_bytes(path, exported(net).serialize())
    if net.class_names is not None:
        write_json(names, {"class_names": net.class_names})
