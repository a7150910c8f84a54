"""Trained nets: from the newest checkpoint of a run, or from a file of weights."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from resnet_jax import data, identity, interop, models, registry
from resnet_jax.data.passes import IMAGENET_MEAN, IMAGENET_STD
from resnet_jax.errors import UserError
from resnet_jax.evaluation.metadata import METADATA_KEY, read_metadata
from resnet_jax.evaluation.views import CROP
from resnet_jax.identity import Identity
from resnet_jax.models.zoo.inception import IMAGENET_NETS
from resnet_jax.rundir import read_normalisation
from resnet_jax.training import program
from resnet_jax.training.interventions import gates_at, interventions_of
from resnet_jax.training.optimizer import evaluated_params
from resnet_jax.training.start import newest_state, recorded_run, state_after
from resnet_jax.training.step import net_variables

# Side of the training crops of published nets, by family; other families take images as they are.
CROPS = {"imagenet": CROP, "imagenet_densenet": CROP, **dict.fromkeys(IMAGENET_NETS, 299)}
# Fields of ``config.model`` with their only value in PyTorch's nets.
PYTORCH_VALUES = {"norm": "batch", "branch_scaling": "none", "parametrization": "free", "activation": "relu"}


class TrainedNet(NamedTuple):
    """A trained net and the normalisation of its input.

    Attributes:
      name: name of its run or weights file.
      config: fields of ``config.model``.
      num_classes: width of the head.
      model: Flax module.
      variables: collections "params", "batch_stats" and, for a gated net, "gates"; on the host.
      mean: mean subtracted from pixels scaled to [0, 1], float32 ``[height, width, channels]`` or ``[1, 1, channels]``.
      std: divisor of the result, float32 ``[1, 1, channels]``.
      crop: side of its training crops; None if it takes images as they are.
      step: number of training steps; None for weights.
      size: height and width of the images that it takes as they are; None for any size.
      class_names: name of each class; None if unknown.
    """

    name: str
    config: ConfigDict
    num_classes: int
    model: nn.Module
    variables: dict[str, Any]
    mean: np.ndarray
    std: np.ndarray
    crop: int | None
    step: int | None = None
    size: tuple[int, int] | None = None
    class_names: tuple[str, ...] | None = None

    @property
    def kind(self) -> str:
        """Title of the net with its shortcut, for example "residual-20" or "residual-20, shortcut B"."""
        title = models.title(self.config)
        if "shortcut" in models.fields_read(self.config) and self.config.shortcut != "A":
            return f"{title}, shortcut {self.config.shortcut}"
        return title


class ForeignDefaults(NamedTuple):
    """Values that a foreign weights file does not record; the metadata of files written here take precedence.

    Attributes:
      residual: whether the net has shortcuts.
      bottleneck_stride: ``config.model.bottleneck_stride``; torchvision, timm and Hugging Face use "middle".
      epsilon: epsilon of the batch norms; None for the published nets' epsilon.
      mean: mean of each channel, subtracted from pixels scaled to [0, 1]; by default ImageNet's, which nearly all
        published nets use.
      std: standard deviation of each channel, divisor of the result.
    """

    residual: bool = True
    bottleneck_stride: str = "middle"
    epsilon: float | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


class OpenRun(NamedTuple):
    """A net of a run and its training data.

    Attributes:
      net: trained net.
      config: config of the run, with the present folder of the data set.
      dataset: data set of this config.
      warnings: messages about changes of the data since training.
    """

    net: TrainedNet
    config: ConfigDict
    dataset: data.Dataset | data.Stream
    warnings: list[str]


def of_run(workdir: pathlib.Path, mesh: Mesh, data_dir: str | None = None, step: int | None = None) -> TrainedNet:
    """Return a net of the run in ``workdir``, which may still be training.

    Its parameters are the ones that the run evaluates: the running average where the run keeps one, except for nets
    kept by ``config.keep_checkpoints``. The data are read only for runs of earlier versions, which did not record
    classes and normalisation.

    Args:
      workdir: run directory.
      mesh: all devices.
      data_dir: folder of the run's data set, if it has moved.
      step: number of steps after which; None for the newest intact checkpoint.

    Raises:
      UserError: ``workdir`` holds no run, the run has no intact checkpoint, or its data set is missing.
    """
    return net_of(workdir, *opened(workdir, data_dir), mesh, step)


def opened(workdir: pathlib.Path, data_dir: str | None) -> tuple[ConfigDict, Identity | None]:
    """Return config and identity of the run in ``workdir``; ``data_dir`` replaces the folder of its data set."""
    config, recorded = recorded_run(workdir, str(workdir))
    config.data.data_dir = data_dir or config.data.data_dir
    return config, recorded


def net_of(
    workdir: pathlib.Path, config: ConfigDict, recorded: Identity | None, mesh: Mesh, step: int | None
) -> TrainedNet:
    """Return a net of the run in ``workdir``, given the result of ``opened``; see ``of_run``."""
    normalisation = recorded and read_normalisation(workdir, recorded.of_checkpoint)
    if recorded is not None and normalisation is not None:
        image_shape, class_names = tuple(recorded.data["image_shape"]), tuple(recorded.data["class_names"])
        mean, std = normalisation
    else:
        dataset = data.load(config.data)
        image_shape, class_names = data.image_shape(dataset), dataset.class_names
        mean, std = data.normalisation(dataset, config.data)
    model = program.build_net(config, len(class_names))
    where = (workdir, config, model, mesh, image_shape)
    state = newest_state(*where) if step is None else state_after(*where, step)
    gates = gates_at(interventions_of(config, model, image_shape).gates, int(state.step))
    params = evaluated_params(state.params, state.opt_state) if state.opt_state else state.params
    variables = jax.device_get(net_variables(params, state.batch_stats, gates))
    crop = config.data.image_size
    height, width, channels = image_shape
    return TrainedNet(
        workdir.resolve().name,
        config.model,
        len(class_names),
        model,
        variables,
        mean,
        np.ones((1, 1, channels), np.float32) if std is None else std,
        crop,
        int(state.step),
        (height, width) if crop is None else None,
        class_names,
    )


def open_run(workdir: pathlib.Path, mesh: Mesh, data_dir: str | None = None, step: int | None = None) -> OpenRun:
    """Return the net of ``of_run`` with config and data set, for the same arguments.

    Raises:
      UserError: ``of_run`` raises it, or the data now have other classes, or images of another shape.
    """
    config, recorded = opened(workdir, data_dir)
    net = net_of(workdir, config, recorded, mesh, step)
    dataset = data.load(config.data)
    identity.check_classes(net.class_names, dataset.class_names, str(workdir))
    check_size(net, data.image_shape(dataset))
    warnings = identity.changed_data(recorded, data.identify(dataset), str(workdir)) if recorded else []
    for message in warnings:
        logging.warning("%s", message)
    return OpenRun(net, config, dataset, warnings)


def of_weights(
    path: pathlib.Path,
    image_shape: tuple[int, ...],
    num_classes: int,
    config: ConfigDict | None = None,
    defaults: ForeignDefaults = ForeignDefaults(),  # noqa: B008 - a tuple.
    dtype: str = "float32",
    key: str | None = None,
) -> TrainedNet:
    """Return the net whose weights are in file ``path``, under one of the naming schemes of ``interop``.

    Args:
      path: safetensors file, or a file of PyTorch if PyTorch is installed; recognised by content.
      image_shape: shape of images, ``(height, width, channels)``.
      num_classes: width of the head.
      config: ``config.model`` of the net that the weights must fit; None to infer it from their names and shapes.
      defaults: values that names and shapes do not determine; the metadata of files written here take precedence.
      dtype: type of the computation.
      key: key of the net, if the file holds several, such as "state_dict_ema".

    Raises:
      UserError: the file cannot be read, or does not fit the net, or the net does not take images of ``image_shape``.
    """
    tensors, all_metadata = interop.read(path, key)
    recognised = interop.recognise(tensors, str(path))
    metadata = read_metadata(all_metadata, str(path))
    written = metadata.get("model", {})
    channels = image_shape[-1]
    if not {"mean", "std"} <= metadata.keys():
        check_normalisation(defaults.mean, defaults.std, channels)
    if not 0 <= (defaults.epsilon or 0) <= 1:
        raise UserError(f"--epsilon={defaults.epsilon} must be from 0 to 1, e.g. --epsilon=1e-5.")
    fields_of_net = dict(config or recognised.model | written) | {
        name: written.get(name, recognised.model.get(name, getattr(defaults, name)))
        for name in ("residual", "bottleneck_stride")
    }
    net_config = models.complete(fields_of_net)
    model = models.build(net_config, num_classes, dtype)
    try:
        like = models.template(model, image_shape)
        epsilon = None if written else defaults.epsilon
        variables = interop.from_torch(tensors, like, recognised.scheme, str(path), epsilon)
    except UserError as error:
        others = [f"--config.model.{k}={v}" for k, v in recognised.model.items() if net_config[k] != v]
        if not others:
            raise
        raise UserError(f"{error} Its names and shapes fit {' '.join(others)}.") from error
    net_config.update(written)  # Names and shapes fit several nets; the metadata name one.
    model = models.build(net_config, num_classes, dtype)
    mean, std = (metadata.get(name, np.array([[getattr(defaults, name)]], np.float32)) for name in ("mean", "std"))
    if (mean.shape[-1], std.shape[-1]) != (channels, channels):
        raise UserError(f"{path} is of a net for images of {mean.shape[-1]} channels, but these have {channels}.")
    crop = metadata.get("crop", CROPS.get(net_config.family))
    # Files without a recorded size have it as the shape of the mean image.
    size = metadata.get("size", mean.shape[:2] if mean[..., 0].size > 1 and crop is None else None)
    net = TrainedNet(
        weights_name(path, key),
        net_config,
        num_classes,
        model,
        variables,
        mean,
        std,
        crop,
        size=size,
        class_names=metadata.get("class_names"),
    )
    check_size(net, image_shape)
    return net


def recorded_shape(path: pathlib.Path, key: str | None = None) -> tuple[tuple[int, int, int], int] | None:
    """Return image shape and number of classes recorded in the weights file ``path``; None if it does not record them.

    Raises:
      UserError: the file cannot be read, or does not hold a net called ``key``.
    """
    _, all_metadata = interop.read(path, key)
    metadata = read_metadata(all_metadata, str(path))
    side = metadata.get("crop")
    size = metadata.get("size") or (side and (side, side))
    if not (size and {"mean", "num_classes"} <= metadata.keys()):
        return None
    height, width = size
    return (height, width, metadata["mean"].shape[-1]), metadata["num_classes"]


def weights_name(path: pathlib.Path, key: str | None) -> str:
    """Return the name of the net in the weights file ``path``, with its ``key`` if there is one."""
    return path.stem if key is None else f"{path.stem} ({key})"


def check_normalisation(mean: Sequence[float], std: Sequence[float], channels: int) -> None:
    """Raise a UserError unless ``mean`` and ``std`` fit pixels scaled to [0, 1] and have a value per channel."""
    example = ",".join(map(str, IMAGENET_MEAN)), ",".join(map(str, IMAGENET_STD))
    for name, values, like, limits, at_least in (
        ("mean", mean, example[0], "from 0 to 1", 0.0),
        ("std", std, example[1], "above 0 and at most 1", np.finfo(np.float32).tiny),
    ):
        if not all(at_least <= value <= 1 for value in values):
            raise UserError(
                f"--{name}={','.join(map(str, values))} must be {limits}, for pixels scaled to [0, 1], e.g. --{name}="
                f"{like}; divide values for pixels of 0 to 255 by 255."
            )
    if (len(mean), len(std)) != (channels, channels):
        raise UserError(
            f"--mean has {len(mean)} and --std {len(std)} values, but the images have {channels} channels; "
            "give one value per channel."
        )


def check_size(net: TrainedNet, image_shape: tuple[int, ...]) -> None:
    """Raise a UserError unless ``net`` takes images of ``image_shape``, ``(height, width, channels)``."""
    if net.size not in (None, image_shape[:2]):
        trained, given = ("x".join(map(str, size)) for size in (net.size, image_shape[:2]))
        raise UserError(
            f"{net.name} was trained on images of {trained} pixels, but these have {given}; give it images of its own "
            "data set, with the same config.data.downsample."
        )


def write_weights(net: TrainedNet, path: pathlib.Path) -> None:
    """Write ``net`` to safetensors file ``path`` under PyTorch's names; the metadata record everything else.

    Raises:
      UserError: the net, or a layer of it, has no PyTorch names.
      OSError: the file cannot be written.
    """
    if "gates" in net.variables:
        raise UserError(f"{net.name} has config.gates, for which PyTorch's nets have no place; nothing was written.")
    for field in models.fields_read(net.config):
        if field in PYTORCH_VALUES and net.config[field] != PYTORCH_VALUES[field]:
            raise UserError(
                f"{net.name} has config.model.{field}={net.config[field]!r}, for which PyTorch's nets have no names; "
                "nothing was written."
            )
    for own in registry.used_by({"model.block": net.config.block}):
        raise UserError(f"{net.name} uses {own}, for which PyTorch's nets have no names; nothing was written.")
    metadata = {
        "model": net.config.to_dict(),
        "num_classes": net.num_classes,
        "class_names": net.class_names,
        "crop": net.crop,
        "size": net.size,
        "pixels": "(uint8 / 255 - mean) / std, [height, width, channels]",
        "mean": net.mean.tolist(),
        "std": net.std.tolist(),
    }
    scheme = interop.scheme_of_family(net.config.family, net.config.order)
    tensors = interop.to_torch(net.variables, scheme)
    interop.write(path, tensors, {METADATA_KEY: json.dumps(metadata)})
