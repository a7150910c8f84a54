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

# Side of the crops that published nets of a family were trained on; the others take images as they are.
CROPS = {"imagenet": CROP, "imagenet_densenet": CROP, **dict.fromkeys(IMAGENET_NETS, 299)}
# Fields of ``config.model`` of which PyTorch's nets have one value alone.
NAMED = {"norm": "batch", "branch_scaling": "none", "parametrization": "free", "activation": "relu"}


class TrainedNet(NamedTuple):
    """A trained net and how its input is normalised.

    Attributes:
      name: of its run or weights file.
      config: as ``config.model``.
      num_classes: width of the head.
      model: the module.
      variables: ``{"params": ..., "batch_stats": ...}`` and, if it has any, "gates"; on the host.
      mean: subtracted from pixels scaled to [0, 1], float32 ``[height, width, channels]`` or ``[1, 1, channels]``.
      std: divides the result, float32 ``[1, 1, channels]``.
      crop: side of the crops it was trained on; None if it takes images as they are.
      step: the steps it was trained for, of a run.
      size: height and width of the images it takes as they are; None: of any.
      class_names: of each label; None if they are not known.
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
        """What the net is, for example "residual-20" or "residual-20, shortcut B"."""
        title = models.title(self.config)
        if "shortcut" in models.fields_read(self.config) and self.config.shortcut != "A":
            return f"{title}, shortcut {self.config.shortcut}"
        return title


class ForeignDefaults(NamedTuple):
    """What a weights file from elsewhere does not record; the metadata of files written here take precedence.

    Attributes:
      residual: whether the net has shortcuts.
      bottleneck_stride: as ``config.model.bottleneck_stride``; torchvision, timm and Hugging Face use "middle".
      epsilon: of the batch norms; None for that of the published nets.
      mean: of each channel, subtracted from pixels scaled to [0, 1]; the default is that of nearly all published nets.
      std: of each channel, divides the result.
    """

    residual: bool = True
    bottleneck_stride: str = "middle"
    epsilon: float | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


class OpenRun(NamedTuple):
    """A net of a run, and what it was trained on.

    Attributes:
      net: the net.
      config: of the run; the data set is where it is now.
      dataset: of this config.
      warnings: sentences on how the data have changed since.
    """

    net: TrainedNet
    config: ConfigDict
    dataset: data.Dataset | data.Stream
    warnings: list[str]


def of_run(workdir: pathlib.Path, mesh: Mesh, data_dir: str | None = None, step: int | None = None) -> TrainedNet:
    """Return a net of the run in ``workdir``, which may still be training.

    Its parameters are those that the run evaluates: their running average where it keeps one, which nets kept by
    ``config.keep_checkpoints`` lack. Its data are only read if an earlier version made the run, which did not record
    their classes and how they are normalised.

    Args:
      workdir: the run directory.
      mesh: all devices.
      data_dir: where the run's data set is now, if it has moved.
      step: after which; None: that of the newest intact checkpoint.

    Raises:
      UserError: ``workdir`` holds no run, the run has no intact checkpoint, or its data set is missing.
    """
    return net_of(workdir, *opened(workdir, data_dir), mesh, step)


def opened(workdir: pathlib.Path, data_dir: str | None) -> tuple[ConfigDict, Identity | None]:
    """Return config and identity of the run in ``workdir``; its data set is now in ``data_dir``, if it has moved."""
    config, recorded = recorded_run(workdir, str(workdir))
    config.data.data_dir = data_dir or config.data.data_dir
    return config, recorded


def net_of(
    workdir: pathlib.Path, config: ConfigDict, recorded: Identity | None, mesh: Mesh, step: int | None
) -> TrainedNet:
    """Return a net of the run in ``workdir``, given what ``opened`` returns; see ``of_run``."""
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
    """Return the net of ``of_run``, whose arguments are the same, with config and data set.

    Raises:
      UserError: as of ``of_run``, or the data now have other classes, or images of another shape.
    """
    config, recorded = opened(workdir, data_dir)
    net = net_of(workdir, config, recorded, mesh, step)
    dataset = data.load(config.data)
    identity.check_classes(net.class_names, dataset.class_names, str(workdir))
    check_size(net, data.image_shape(dataset))
    warnings = identity.changed_data(recorded, data.identify(dataset), str(workdir)) if recorded else []
    for sentence in warnings:
        logging.warning("%s", sentence)
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
      path: a safetensors file, or one of PyTorch's if PyTorch is installed; its content says which.
      image_shape: ``(height, width, channels)``.
      num_classes: width of the head.
      config: ``config.model`` of the net that the weights must fit; None to infer it from their names and shapes.
      defaults: what these do not determine; the metadata of files written here take precedence.
      dtype: of the computation.
      key: of the net, if the file holds several, such as "state_dict_ema".

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
    net_config.update(written)  # Of the nets with these tensors, the one that was written.
    model = models.build(net_config, num_classes, dtype)
    mean, std = (metadata.get(name, np.array([[getattr(defaults, name)]], np.float32)) for name in ("mean", "std"))
    if (mean.shape[-1], std.shape[-1]) != (channels, channels):
        raise UserError(f"{path} is of a net for images of {mean.shape[-1]} channels, but these have {channels}.")
    crop = metadata.get("crop", CROPS.get(net_config.family))
    # Of files written before it was recorded, the mean of each pixel tells it.
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
    """Return shape of the images and number of classes of the weights file ``path``; None if it does not record them.

    Raises:
      UserError: the file cannot be read, or ``key`` is none of its nets.
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
    """Return the name of the net in the weights file ``path``, with its ``key`` if it was chosen by one."""
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
            f"{net.name} was trained on images of {trained} pixels, but these have {given}; give it those of its own "
            "data set, with the same config.data.downsample."
        )


def write_weights(net: TrainedNet, path: pathlib.Path) -> None:
    """Write ``net`` to safetensors file ``path`` under PyTorch's names; what they do not record goes into its metadata.

    Raises:
      UserError: the net, or a layer of it, has no PyTorch names.
      OSError: the file cannot be written.
    """
    if "gates" in net.variables:
        raise UserError(f"{net.name} has config.gates, for which PyTorch's nets have no place; nothing was written.")
    for field in models.fields_read(net.config):
        if field in NAMED and net.config[field] != NAMED[field]:
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
