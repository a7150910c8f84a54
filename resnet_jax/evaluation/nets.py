"""Nets to evaluate: of a run's newest checkpoint, or of a file of weights."""

import json
import pathlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from resnet_jax import data, interop, models
from resnet_jax.config import check
from resnet_jax.errors import UserError
from resnet_jax.evaluation.views import CROP
from resnet_jax.models.norm import BatchNorm
from resnet_jax.rundir import read_config
from resnet_jax.training import program
from resnet_jax.training.checkpoints import Checkpoints

# Where a file of weights written here says what its tensors do not.
METADATA = "resnet_jax"


class Net(NamedTuple):
    """A trained net and what it takes to feed it.

    Attributes:
      name: of its run or file.
      config: as ``config.model``.
      num_classes: width of the head.
      model: the module.
      variables: ``{"params": ..., "batch_stats": ...}``, on the host.
      mean: float32, what pixels in units of 255 are lessened by, ``[height, width, channels]`` or ``[1, 1, channels]``.
      std: float32 ``[1, 1, channels]``, what they are then divided by.
      crop: side of the crops it is for; None if it takes images as they are.
    """

    name: str
    config: ConfigDict
    num_classes: int
    model: nn.Module
    variables: dict[str, Any]
    mean: np.ndarray
    std: np.ndarray
    crop: int | None

    @property
    def kind(self) -> str:
        """What the net is, as in "residual-20"."""
        kind = f"{'residual' if self.config.residual else 'plain'}-{self.config.depth}"
        return f"{kind} {self.config.shortcut}" if self.config.residual and self.config.shortcut != "A" else kind


class Untold(NamedTuple):
    """What a file of weights does not tell of its net, unless it was written here.

    Attributes:
      residual: whether it has shortcuts.
      bottleneck_stride: as ``config.model.bottleneck_stride``; torchvision, timm and Hugging Face have "middle".
      epsilon: of the batch norms.
      mean: of each channel, what pixels in units of 255 are lessened by; by default as for nearly all published nets.
      std: of each channel, what they are then divided by.
    """

    residual: bool = True
    bottleneck_stride: str = "middle"
    epsilon: float = BatchNorm.epsilon
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


def of_run(workdir: pathlib.Path, mesh: Mesh, data_dir: str | None = None) -> Net:
    """Return the net of the newest whole checkpoint of the run in ``workdir``; the run may still be going on.

    Args:
      workdir: the run directory.
      mesh: all devices.
      data_dir: where the run's data set lies now, if not where it lay then.

    Raises:
      UserError: ``workdir`` holds no run, or the run no whole checkpoint, or its data are missing.
    """
    recorded = read_config(workdir)
    if recorded is None:
        raise UserError(f"{workdir} holds no run; give a run directory, as runs/NAME.")
    config = recorded.config
    check(config, devices=1)
    models.build(config.model, num_classes=1)  # Refuses a depth that the family does not have.
    config.data.data_dir = data_dir or config.data.data_dir
    dataset = data.load(config.data)
    image_shape = data.image_shape(dataset)
    model = program.build_net(config, dataset.num_classes)
    template = program.initial_state(config, model, mesh, image_shape)
    restored = None
    if (workdir / "checkpoints").is_dir():
        with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
            restored = checkpoints.restore(template)
    if restored is None:
        raise UserError(f"{workdir} has no checkpoint yet; train it on, or give another run.")
    state, _ = restored
    logging.info("%s: the checkpoint of step %d", workdir, int(state.step))
    variables = jax.device_get({"params": state.params, "batch_stats": state.batch_stats})
    mean, std = data.mean(dataset, config.data), np.ones((1, 1, image_shape[-1]), np.float32)
    return Net(
        workdir.resolve().name, config.model, dataset.num_classes, model, variables, mean, std, config.data.image_size
    )


def of_weights(
    path: pathlib.Path,
    image_shape: tuple[int, ...],
    num_classes: int,
    config: ConfigDict | None = None,
    untold: Untold = Untold(),  # noqa: B008 - a tuple.
    dtype: str = "float32",
) -> Net:
    """Return the net whose weights are in file ``path``, under one of the names that ``interop`` knows.

    Args:
      path: of safetensors, or of PyTorch's where that is installed.
      image_shape: ``(height, width, channels)``.
      num_classes: width of the head.
      config: as ``config.model``, of the net that the weights must fit; None for the one that their names and shapes
        tell.
      untold: what these do not tell; a file that was written here does.
      dtype: type of the computation.

    Raises:
      UserError: the file cannot be read, or does not fit the net.
    """
    tensors, metadata = interop.read(path)
    recognised = interop.recognise(tensors, str(path))
    told = json.loads(metadata.get(METADATA, "{}"))
    fields_of_net = dict(config or recognised.model) | {
        "residual": untold.residual,
        "bottleneck_stride": untold.bottleneck_stride,
    }
    fields_of_net |= {name: told["model"][name] for name in ("residual", "bottleneck_stride") if told}
    net_config = ConfigDict(fields_of_net)
    model = models.build(net_config, num_classes, dtype)
    try:
        like = models.template(model, image_shape)
        variables = interop.from_torch(tensors, like, recognised.scheme, str(path), untold.epsilon)
    except UserError as error:
        others = [f"--config.model.{k}={v}" for k, v in recognised.model.items() if net_config[k] != v]
        if not others:
            raise
        raise UserError(f"{error} Its names and shapes are those of {' '.join(others)}.") from error
    mean, std = (np.array(told.get(name) or [[getattr(untold, name)]], np.float32) for name in ("mean", "std"))
    channels = image_shape[-1]
    if (mean.shape[-1], std.shape[-1]) != (channels, channels):
        raise UserError(
            f"--mean has {mean.shape[-1]} values and --std {std.shape[-1]}, but the images {channels} channels; "
            "give one for each."
        )
    crop = told.get("crop", CROP if net_config.family == "imagenet" else None)
    return Net(path.stem, net_config, num_classes, model, variables, mean, std, crop)


def write_weights(net: Net, path: pathlib.Path) -> None:
    """Write ``net`` to safetensors file ``path`` under PyTorch's names; what they do not tell goes to its metadata.

    Raises:
      OSError: it cannot be written.
    """
    told = {
        "model": net.config.to_dict(),
        "num_classes": net.num_classes,
        "crop": net.crop,
        "pixels": "(uint8 / 255 - mean) / std, [height, width, channels]",
        "mean": net.mean.tolist(),
        "std": net.std.tolist(),
    }
    tensors = interop.to_torch(net.variables, interop.SCHEME_OF_FAMILY[net.config.family])
    interop.write(path, tensors, {METADATA: json.dumps(told)})
